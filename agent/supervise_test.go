package agent_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hostrole/hostrole/agent"
)

func TestSupervise(t *testing.T) {
	wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		fail func(context.Context) error
		want string
	}{
		"error":  {func(context.Context) error { return boom }, "part: boom"},
		"early":  {func(context.Context) error { return nil }, "part ended by itself"},
		"panics": {func(context.Context) error { panic("ouch") }, "part: a fault in this program: ouch"},
	} {
		synctest.Test(t, func(t *testing.T) {
			err := agent.Supervise(t.Context(), agent.NewTask("other", wait), agent.NewTask("part", c.fail))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %s", name, err, c.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := agent.Supervise(ctx, agent.NewTask("a", wait), agent.NewTask("b", func(ctx context.Context) error { <-ctx.Done(); return boom })); err != nil {
		t.Errorf("an end that was asked for is %v", err)
	}
}
