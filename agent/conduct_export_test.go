package agent

import (
	"context"

	"github.com/hostrole/hostrole/imds"
)

// Ask has a listener's handler answer, without a connection.
func (a *Agent) Ask(ctx context.Context, listener string, r *imds.Request) imds.Response {
	return a.current.conduct[listener].Handler.Serve(ctx, r)
}
