package assertion

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hostrole/hostrole/rotation/assertion/svid"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// SPIFFE gets a JWT-SVID from the SPIFFE Workload API. The API tells by the
// socket's other end who asks, so the identity is that of this process.
type SPIFFE struct {
	Socket   string // path of the API's unix socket
	Audience string
	ID       string        // which identity, spiffe://…; "" is the default one
	Timeout  time.Duration // of the call; required

	Now func() time.Time
}

// Get makes one call. An error matches [ErrRefused] when the API said no.
func (s SPIFFE) Get(ctx context.Context) (Token, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	op := "asking the SPIFFE Workload API at " + s.Socket + " for a token"
	text, err := svid.Fetch(ctx, s.Socket, s.Audience, s.ID)
	var status *svid.Status
	switch {
	case errors.As(err, &status):
		return Token{}, refusal(op, status)
	case err != nil:
		return Token{}, fmt.Errorf("%s: %w", op, err)
	}
	return fresh(text, "the answer of "+s.Socket, s.Now())
}

func refusal(op string, s *svid.Status) error {
	hint := map[svid.Code]string{
		svid.InvalidArgument:  "check audience, and the form of id",
		svid.PermissionDenied: "register this process, by its user or its unit, with the SPIFFE server",
		svid.Unauthenticated:  "register this process, by its user or its unit, with the SPIFFE server",
		svid.Unimplemented:    "is it the Workload API's socket?",
	}[s.Code]
	return said(op, http.StatusOK, s.Code.String(), upstream.Clean(s.Message), hint != "", hint)
}
