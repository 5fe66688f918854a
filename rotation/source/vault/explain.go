package vault

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// Transient is the rule for [upstream.Options.Transient]: it reports whether
// an answer is worth another try at once. 412 is a replica that has not seen
// yet what a login a moment ago has made.
func Transient(status int, _ []byte) bool { return status == http.StatusPreconditionFailed }

// afterwards are words of AWS that Vault repeats in a 400 and that the same
// request may outlive: Vault could not reach AWS, or was throttled, or its own
// keys were new.
var afterwards = []string{"send request failed", "request send failed", "StatusCode: 5", "status code: 5", "Throttling", "RequestLimitExceeded", "InvalidClientTokenId"}

// explain turns a refusal into an error of ours, in the server's words and
// with none of the secrets.
func explain(op string, resp *http.Response, text []byte, secrets []credential.Secret) error {
	var doc struct{ Errors *[]string }
	if json.Unmarshal(text, &doc) != nil || doc.Errors == nil {
		return elsewhere(op, resp)
	}
	words := strings.Join(*doc.Errors, "; ")
	e := &source.Error{Op: op, Message: upstream.Clean(words, secrets...), Status: resp.StatusCode, RetryAfter: upstream.RetryAfter(resp.Header)}
	if e.Message == "" {
		e.Message = fmt.Sprintf("HTTP status %d", resp.StatusCode)
	}
	login := strings.HasPrefix(op, "POST auth/")
	switch e.Status {
	case http.StatusForbidden:
		e.Kind = source.ErrAccessDenied
		e.Hint = "check that the Vault token has not ended, and that its policy allows this path"
		if login {
			e.Hint = "check the role of the auth method and what it is bound to"
		}
	case http.StatusBadRequest:
		switch {
		case contains(words, afterwards):
			e.Hint = "Vault could not get an answer from AWS"
		case contains(words, []string{"AccessDenied"}):
			e.Kind, e.Hint = source.ErrAccessDenied, "check that the AWS role trusts Vault's own identity"
		case login:
			e.Kind, e.Hint = source.ErrRefused, "check the credentials of the login: have they ended?"
		default:
			e.Kind, e.Hint = source.ErrRefused, "check the Vault role, its credential_type and its role_arns"
		}
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		e.Kind, e.Hint = source.ErrRefused, "check the mount, the namespace and the role: nothing answers on this path"
	case http.StatusServiceUnavailable:
		e.Hint = "Vault is sealed, or has no active node"
	}
	return e
}

// elsewhere is an answer that does not come from Vault's API, or sends us on.
func elsewhere(op string, resp *http.Response) error {
	e := &source.Error{Op: op, Status: resp.StatusCode, RetryAfter: upstream.RetryAfter(resp.Header),
		Message: fmt.Sprintf("HTTP status %d, and not in the form of Vault", resp.StatusCode),
		Hint:    "check the address, and whether a proxy answers in its place"}
	if resp.StatusCode/100 == 3 {
		e.Message = fmt.Sprintf("HTTP status %d: a token is not carried on to another address", resp.StatusCode)
		e.Hint = "give the address of the active node or of the cluster"
	}
	return e
}

func contains(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
