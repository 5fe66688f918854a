package agent

import (
	"context"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

type taskFunc = func(context.Context) error

// A task runs until its context ends. One that returns before that has failed,
// even without an error.
type task struct {
	name string
	run  taskFunc
}

// supervise runs tasks together and returns the first cause of the end, or nil
// when ctx ended. A task that fails or panics ends all. When it returns, no
// goroutine of it is left.
func supervise(ctx context.Context, tasks ...task) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		g.Go(func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("%s: a fault in this program: %v\n%s", t.name, p, debug.Stack())
				}
			}()
			err = t.run(gctx)
			switch {
			case gctx.Err() != nil:
				return nil
			case err == nil:
				return fmt.Errorf("%s ended by itself", t.name)
			}
			return fmt.Errorf("%s: %w", t.name, err)
		})
	}
	return g.Wait()
}
