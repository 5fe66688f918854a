package agent

import (
	"context"

	"github.com/hostrole/hostrole/imds"
)

// Ask has a listener's handler answer, without a connection.
func (a *Agent) Ask(ctx context.Context, listener string, r *imds.Request) imds.Response {
	a.mu.Lock()
	h := a.current.conduct[listener].Handler
	a.mu.Unlock()
	return h.Serve(ctx, r)
}
