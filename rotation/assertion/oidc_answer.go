package assertion

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// ErrRefused matches an identity provider's definite no, in the words of its
// protocol: asking again soon is pointless.
var ErrRefused = errors.New("the identity provider refused")

// passing are the OAuth errors that waiting mends.
var passing = map[string]bool{"temporarily_unavailable": true, "server_error": true, "slow_down": true}

var hints = map[string]string{
	"invalid_client":         "check client_id, the auth that the provider expects of this client, its secret or key, and this host's clock",
	"unauthorized_client":    "allow this grant type to the client at the provider",
	"unsupported_grant_type": "allow this grant type to the client at the provider",
	"invalid_scope":          "check scope",
	"invalid_target":         "check audience",
	"invalid_grant":          "what was shown is not accepted: check that the endpoint trusts its issuer and key, and this host's clock",
}

// explain makes an error of what the library returned for a call on w. The
// library's own text has the whole answer in it.
func (w *way) explain(op string, err error, secrets ...credential.Secret) error {
	var answer *oauth2.RetrieveError
	switch {
	case w.err != nil:
		return fmt.Errorf("%s: %w", op, w.err)
	case !errors.As(err, &answer):
		text := strings.TrimPrefix(upstream.Clean(err.Error(), secrets...), "oauth2: ")
		return fmt.Errorf("%s: %s; is it a token endpoint?", op, text)
	}
	code, message := answer.ErrorCode, answer.ErrorDescription
	if code == "" {
		// Not every part of the library looks into the answer.
		var doc struct {
			Error       string
			Description string `json:"error_description"`
		}
		if json.Unmarshal(answer.Body, &doc) == nil {
			code, message = doc.Error, doc.Description
		}
	}
	code, message = upstream.Clean(code, secrets...), upstream.Clean(message, secrets...)
	status := answer.Response.StatusCode
	return upstream.After(answer.Response.Header, said(op, status, code, message, code != "" && !passing[code] && definite(status), hints[code]))
}

// said is the error for an answer. A code that the protocol does not define,
// or none, is no refusal: a proxy on the way may have answered.
func said(op string, status int, code, message string, refused bool, hint string) error {
	text := cmp.Or(code, fmt.Sprintf("HTTP status %d", status))
	if message != "" {
		text += ": " + message
	}
	if hint != "" {
		text += "; " + hint
	}
	if refused {
		return fmt.Errorf("%s: %w: %s", op, ErrRefused, text)
	}
	return fmt.Errorf("%s: %s", op, text)
}

// definite reports whether a status leaves an error code its meaning.
func definite(status int) bool {
	return status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}

// fresh checks a token that has just been issued, before anybody is shown it:
// its form, that its claims can be read, that it has not expired, and that it
// is signed as STS wants it. The signature is for STS to check.
func fresh(text, from string, now time.Time) (Token, error) {
	t, err := parse(text, from)
	if err != nil {
		return Token{}, fmt.Errorf("%w; let the issuer make it a signed JSON web token", err)
	}
	var head struct{ Alg string }
	var claims struct {
		Iss string
		Exp float64
	}
	switch {
	case !part(text, 0, &head) || !part(text, 1, &claims):
		return Token{}, fmt.Errorf("%s holds a token whose header or claims cannot be read", from)
	case claims.Iss == "" || claims.Exp == 0:
		return Token{}, fmt.Errorf("%s is a %s: STS takes none without issuer and expiry", from, t.Describe(now))
	case claims.Exp <= float64(now.Unix()):
		return Token{}, fmt.Errorf("%s is a %s: check this host's clock and the issuer's", from, t.Describe(now))
	}
	switch head.Alg {
	case "RS256", "RS384", "RS512", "ES256", "ES384", "ES512":
		return t, nil
	}
	return Token{}, fmt.Errorf("%s is a token that is signed with %q: STS takes RS256 to RS512 and ES256 to ES512", from, upstream.Clean(head.Alg))
}

// part decodes the nth part of a token.
func part(text string, n int, into any) bool {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if n >= len(parts) {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[n])
	return err == nil && json.Unmarshal(b, into) == nil
}
