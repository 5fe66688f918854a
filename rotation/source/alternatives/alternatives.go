// Package alternatives is the source that tries others in their order, until
// one gives a credential.
//
// # Why not
//
// Not a memory of which one worked: the first is the one that the operator
// wants, so each attempt begins with it. Not all at once: what is asked in vain
// may be billed, logged, and counted as a failed login. Not one limit of time
// for all: the first that hangs would leave nothing for the next.
package alternatives

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// An Alternative is one of the sources.
type Alternative struct {
	Name    string // for errors, such as "source.corp"
	Source  source.Source
	Timeout time.Duration // of its attempt; required
}

// Source tries its alternatives in order. It must not be copied.
type Source struct {
	Alternatives []Alternative                // at least one
	Failed       func(name string, err error) // is told of one that failed when another is left; nil for nobody

	last atomic.Int64
}

var _ source.Source = (*Source)(nil)

// Fetch makes one attempt with each alternative until one succeeds. An error
// tells of all of them, and matches [source.ErrRefused] only when all refused:
// one that was down may be up the next time.
func (s *Source) Fetch(ctx context.Context) (credential.Credential, error) {
	var all failures
	for i, a := range s.Alternatives {
		if err := ctx.Err(); err != nil {
			if len(all) > 0 { // of which the rest might have been worth more
				err = fmt.Errorf("%w before %s was tried: %s", err, a.Name, all.Error())
			}
			return credential.Credential{}, err
		}
		c, err := a.fetch(ctx)
		if err == nil {
			s.last.Store(int64(i))
			return c, nil
		}
		if all = append(all, failure{a.Name, err}); s.Failed != nil && i+1 < len(s.Alternatives) {
			s.Failed(a.Name, err)
		}
	}
	return credential.Credential{}, all
}

// Last is the index of the alternative that gave the newest credential; 0
// while none has.
func (s *Source) Last() int { return int(s.last.Load()) }

func (a Alternative) fetch(ctx context.Context) (credential.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	return a.Source.Fetch(ctx)
}

type failure struct {
	name string
	err  error
}

// failures are those of all alternatives.
type failures []failure

// Error is one line.
func (f failures) Error() string {
	var texts []string
	for _, one := range f {
		texts = append(texts, one.name+": "+one.err.Error())
	}
	return "no alternative gave a credential: " + strings.Join(texts, "; then ")
}

// Unwrap returns the failures that say what the whole is: those that are worth
// a retry; else those that are no want of rights; else all.
func (f failures) Unwrap() (errs []error) {
	for _, kind := range []error{source.ErrRefused, source.ErrAccessDenied} {
		for _, one := range f {
			if !errors.Is(one.err, kind) {
				errs = append(errs, one.err)
			}
		}
		if len(errs) > 0 {
			return errs
		}
	}
	for _, one := range f {
		errs = append(errs, one.err)
	}
	return errs
}
