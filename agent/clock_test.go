package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent"
)

// Outside a bubble: inside one, time.Now has no monotonic reading anyway.
func TestNowHasNoMonotonicReading(t *testing.T) {
	if s := agent.Now().String(); strings.Contains(s, "m=") {
		t.Errorf("Now() = %s", s)
	}
	if l := agent.Now().Location(); l != time.UTC {
		t.Errorf("Now() is in %v", l)
	}
}

func TestBootRuns(t *testing.T) {
	a := agent.Boot()
	for range 1_000_000 {
		if agent.Boot() > a {
			return
		}
	}
	t.Errorf("Boot() stands still at %v", a)
}
