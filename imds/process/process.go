// Package process renders the document of credential_process for a caller.
//
// # Why not
//
// Not a document without Expiration for keys that never expire: a client that
// reads none never asks again, also when the keys were replaced. Not a hold of
// its own, as the HTTP endpoints have: clients give a command a minute, so how
// long to wait is the caller's to say.
package process

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
)

// endpoint names this protocol to the gate.
const endpoint = "process"

// endless is the expiry, from now, of a credential that never expires.
const endless = 6 * time.Hour

// Document returns the JSON of the role of that name for a caller, or of the
// caller's own role when the name is "". It waits within ctx for a role that
// has no credential yet. There is no line end after it. Its errors match those
// of [gate.Gate.Credential].
func Document(ctx context.Context, g *gate.Gate, now func() time.Time, who caller.Caller, role string) ([]byte, error) {
	if role == "" {
		own, ok := g.Own(endpoint, who)
		if !ok {
			return nil, fmt.Errorf("reading credentials of the caller's own role: %w", gate.ErrDenied)
		}
		role = own.Name
	}
	c, err := g.Credential(ctx, endpoint, who, role)
	if err != nil {
		return nil, fmt.Errorf("reading credentials of the role %q: %w", role, err)
	}
	expires := c.Expires
	if expires.IsZero() {
		expires = now().Add(endless)
	}
	return json.Marshal(struct { // #nosec G117 -- this is how a program gets its keys
		Version         int    // the number: some clients refuse a string
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string `json:",omitempty"`
		Expiration      string
		AccountID       string `json:"AccountId,omitempty"`
	}{1, c.AccessKeyID, c.SecretKey.Reveal(), c.Token.Reveal(), expires.UTC().Format("2006-01-02T15:04:05Z"), c.AccountID})
}
