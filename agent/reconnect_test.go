package agent_test

import (
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent"
)

func TestTriesAreFew(t *testing.T) {
	may := agent.Tries()
	allowed := 0
	for at := time.Hour; at < 2*time.Hour; at += time.Second {
		if may(at) {
			allowed++
		}
		if at == time.Hour+10*time.Second && allowed != 5 {
			t.Errorf("%d at once, want 5", allowed)
		}
	}
	if allowed != 5*60 {
		t.Errorf("%d in an hour of changes, want 300", allowed)
	}
}
