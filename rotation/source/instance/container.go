package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// Container asks a container endpoint, such as that of ECS or of EKS Pod
// Identity.
type Container struct {
	HTTP *upstream.Client // without a proxy
	URI  string           // whole; required

	// Authorization is followed at each use, and its value is the header as it
	// is: EKS writes a new token into the file now and then. nil is no header.
	Authorization func() (credential.Secret, error)

	Loop Loop // only Own counts: this endpoint gives no tokens
	Now  func() time.Time
	Boot func() time.Duration
}

var _ source.Source = Container{}

// Fetch makes one request. Errors of the endpoint are of type [source.Error].
func (c Container) Fetch(ctx context.Context) (credential.Credential, error) {
	if err := c.Loop.check(c.URI); err != nil {
		return credential.Credential{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URI, nil)
	if err != nil {
		return credential.Credential{}, fmt.Errorf("endpoint: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	var secret credential.Secret
	if c.Authorization != nil {
		if secret, err = c.Authorization(); err != nil {
			return credential.Credential{}, fmt.Errorf("authorization: %w", err)
		}
		text := secret.Reveal()
		if !printable(text) {
			return credential.Credential{}, errors.New("authorization: it is empty, or has characters that no token has")
		}
		req.Header.Set("Authorization", text)
	}
	op := "GET from " + req.URL.Host // on ECS the path is a secret
	a, err := do(c.HTTP, op, req, secret)
	switch {
	case err != nil:
		return credential.Credential{}, err
	case a.status != http.StatusOK:
		return credential.Credential{}, explain(op, a, secret)
	}
	return accept(op, a.text, now(c.Now, c.HTTP), c.Boot())
}

// explain turns a refusal into an error of ours. Only ECS says why in a form
// that can be trusted to hold no token.
func explain(op string, a answer, secret credential.Secret) error {
	status := a.status
	e := &source.Error{Op: op, Status: status, RetryAfter: a.later, Message: fmt.Sprintf("HTTP status %d", status)}
	var doc struct{ Code, Message string }
	if json.Unmarshal([]byte(a.text), &doc) == nil && doc.Code != "" {
		e.Code, e.Message = upstream.Clean(doc.Code, secret), upstream.Clean(doc.Message, secret)
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Kind, e.Hint = source.ErrAccessDenied, "check the authorization, and that the endpoint serves this host"
	case status/100 == 4 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests:
		e.Kind, e.Hint = source.ErrRefused, "check the endpoint's path, and whether the authorization has ended"
	}
	return e
}
