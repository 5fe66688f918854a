package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

// A reload changes rules, roles and the tree under load, and not one request is
// lost; a bad configuration changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	h := startHost(t, time.Hour, devsts.Fault{}, "")
	h.until(t, live, 10*time.Second)
	calls := h.sts.CallCount("")

	var asked atomic.Int64
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				status, _, err := h.get(t.Context(), "meta-data/instance-id")
				if err != nil || status != http.StatusOK {
					t.Errorf("a request was lost: %d, %v", status, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	for i := range 10 {
		h.reload(t, fmt.Sprintf("[metadata.tags]\nround = \"%d\"\n", i))
		if _, got, err := h.get(t.Context(), "meta-data/tags/instance/round"); err != nil || got != fmt.Sprint(i) {
			t.Fatalf("after reload %d the tag is %q, %v", i, got, err)
		}
		if got := h.ask(t); got != live {
			t.Fatalf("after reload %d the credential is %q", i, got)
		}
	}
	if n := h.sts.CallCount(""); n != calls {
		t.Errorf("%d calls upstream for roles that did not change", n-calls)
	}

	h.reload(t, "[metadata.tags]\nround = \"bad\"\n[metadata]\nregoin = \"x\"\n")
	if _, got, err := h.get(t.Context(), "meta-data/tags/instance/round"); err != nil || got != "9" {
		t.Errorf("after a bad configuration the tag is %q, %v", got, err)
	}
	if !strings.Contains(h.log.String(), "the configuration was not reloaded") {
		t.Error("the log does not tell of the bad configuration")
	}

	h.reload(t, "")

	// A change of the session is a new session: it is there when the rules change.
	h.change(t, func(text string) string {
		return strings.Replace(text, "[role.app]", "[role.app]\nsession_name = \"another\"", 1)
	})
	if got := h.ask(t); got != live {
		t.Errorf("a session that changed is %q at once", got)
	}
	if n := h.sts.CallCount(""); n != calls+1 {
		t.Errorf("%d calls upstream for one changed session", n-calls)
	}

	// What is taken away is gone.
	h.change(t, func(text string) string { return strings.Replace(text, "any = true", "uid = [4242]", 1) })
	if status, _, err := h.get(t.Context(), "meta-data/iam/security-credentials/app"); err != nil || status != http.StatusNotFound {
		t.Errorf("without a rule: %d, %v", status, err)
	}
	// What needs a restart is said.
	h.change(t, func(text string) string { return strings.Replace(text, "[rotation]", "[rotation]\nparallel = 7", 1) })
	if !strings.Contains(h.log.String(), `"at":"rotation"`) {
		t.Error("the log does not say that a change of [rotation] needs a restart")
	}
	stop()
	all.Wait()
	t.Logf("%d requests during the reloads", asked.Load())
}
