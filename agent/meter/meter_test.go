package meter_test

import (
	"fmt"
	"testing"

	"github.com/hostrole/hostrole/agent/meter"
	"github.com/hostrole/hostrole/agent/metrics"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
)

func TestDenialsHaveAReason(t *testing.T) {
	t.Parallel()
	known, roles := caller.Caller{UID: caller.NewID(0)}, gate.Verdict{Roles: []string{"app"}}
	for want, e := range map[string]gate.Event{
		metrics.UnknownCaller: {Err: gate.ErrDenied},
		metrics.NoRule:        {Err: gate.ErrDenied, Caller: known},
		metrics.MissingFact:   {Err: gate.ErrDenied, Caller: known, Verdict: gate.Verdict{Rule: "rule", Missing: "unit"}},
		metrics.OtherRole:     {Err: gate.ErrDenied, Caller: known, Verdict: roles},
		metrics.Rejected:      {Err: fmt.Errorf("%w: %w", gate.ErrDenied, gate.ErrRejected), Caller: known},
	} {
		if got := meter.Denial(e); got != want {
			t.Errorf("%+v is denied for %s, want %s", e, got, want)
		}
	}
}
