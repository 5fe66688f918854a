// Package instance is the source that is given credentials by a metadata
// service beyond this daemon: that of EC2, version 2, or a container
// endpoint.
//
// # Why not
//
// Not the SDK's providers: they ask version 1 when the token is refused, keep
// an old answer under a new expiry when a refresh fails, and find the service
// by variables of the environment. Not a default address: the one that comes
// to mind is ours. Not a header that tells a daemon its own requests: our
// tokens do, without a word on the wire. Not a name for a plain HTTP endpoint:
// whoever answers for the name would be given the container's token.
package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// Metadata asks an EC2 metadata service, version 2 only.
type Metadata struct {
	HTTP     *upstream.Client // without a proxy
	Endpoint string           // URL without a path, such as http://169.254.169.254 in another network namespace; required
	Role     string           // name; "" is the one that the service lists
	Loop     Loop
	Now      func() time.Time
	Boot     func() time.Duration
}

var _ source.Source = Metadata{}

const (
	tokenPath = "/latest/api/token"
	rolesPath = "/latest/meta-data/iam/security-credentials/"
	ttlHeader = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	header    = "X-Aws-Ec2-Metadata-Token"
	tokenTTL  = "60" // seconds: one token serves one attempt
)

// roleName is what IAM allows in the name of a role.
var roleName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[\w+=,.@-]{1,64}$`) })

// Fetch obtains a session token, the name of the role, and its document. A
// service that answers with a token of ours is us. Errors of the service are
// of type [source.Error].
func (m Metadata) Fetch(ctx context.Context) (credential.Credential, error) {
	if err := m.Loop.check(m.Endpoint); err != nil {
		return credential.Credential{}, err
	}
	token, err := m.get(ctx, http.MethodPut, tokenPath, ttlHeader, tokenTTL)
	if err != nil {
		return credential.Credential{}, err
	}
	if len(token) > 1024 || !printable(token) {
		return credential.Credential{}, faulty("PUT "+tokenPath, errors.New("the answer has no token"))
	}
	if m.Loop.OwnToken != nil && m.Loop.OwnToken(token) {
		return credential.Credential{}, errOwn
	}
	role := m.Role
	if role == "" {
		list, err := m.get(ctx, http.MethodGet, rolesPath, header, token)
		if err != nil {
			return credential.Credential{}, err
		}
		if role, err = first(list); err != nil {
			return credential.Credential{}, faulty("GET "+rolesPath, err)
		}
	}
	if !roleName().MatchString(role) {
		return credential.Credential{}, fmt.Errorf("role %q: IAM allows no such name", role)
	}
	text, err := m.get(ctx, http.MethodGet, rolesPath+role, header, token)
	if err != nil {
		return credential.Credential{}, err
	}
	return accept("GET "+rolesPath+role, text, now(m.Now, m.HTTP), m.Boot())
}

// get makes one request and returns the body of a 200.
func (m Metadata) get(ctx context.Context, method, path, name, value string) (string, error) {
	op := method + " " + path
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(m.Endpoint, "/")+path, nil)
	if err != nil {
		return "", fmt.Errorf("endpoint: %w", err)
	}
	req.Header.Set(name, value)
	a, err := do(m.HTTP, op, req)
	status := a.status
	if err != nil || status == http.StatusOK {
		return a.text, err
	}
	e := &source.Error{Op: op, Status: status, RetryAfter: a.later, Message: fmt.Sprintf("HTTP status %d", status)}
	switch {
	case status == http.StatusForbidden:
		e.Kind, e.Hint = source.ErrAccessDenied, "the metadata service is turned off for this instance, or does not serve this host"
	case status == http.StatusNotFound && path != tokenPath:
		e.Kind, e.Hint = source.ErrRefused, "the instance has no such role: attach an instance profile, or name its role"
	case path == tokenPath && status/100 == 4, status/100 == 3:
		e.Hint = "check the endpoint: it is not that of a metadata service, version 2"
	}
	return "", e
}

// first is the first line of the list of roles.
func first(list string) (string, error) {
	line, _, _ := strings.Cut(list, "\n")
	if line = strings.TrimSpace(line); !roleName().MatchString(line) {
		return "", errors.New("the list of roles does not begin with a name")
	}
	return line, nil
}

// printable reports whether a text can stand in a header. The library's own
// error would quote it.
func printable(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// now is the time by the service's clock, as its last answer showed it.
func now(wall func() time.Time, c *upstream.Client) time.Time { return wall().Add(c.Skew()).UTC() }

// An answer is what came of one request.
type answer struct {
	status int
	text   string
	later  time.Duration // that it asks to be left alone
}

// do makes one request.
func do(c *upstream.Client, op string, req *http.Request, secrets ...credential.Secret) (answer, error) {
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, &source.Error{Op: op, Message: upstream.Clean(err.Error(), secrets...), Err: err}
	}
	body, err := io.ReadAll(resp.Body) // it is in memory
	_ = resp.Body.Close()
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", op, err)
	}
	return answer{resp.StatusCode, string(body), upstream.RetryAfter(resp.Header)}, nil
}

// faulty describes an answer that was no error and yet is of no use.
func faulty(op string, err error) error {
	return &source.Error{Op: op, Err: err, Hint: "the upstream is faulty; what it gave was not used"}
}

// A document is what both kinds of endpoint answer. Code is EC2's alone, and
// RoleARN that of containers.
type document struct {
	Code, Message, AccessKeyID, SecretAccessKey, Token, Expiration, AccountID, RoleARN string
}

// accept reads and checks a document. No error quotes it: the decoder's own
// would.
func accept(op, text string, issued time.Time, received time.Duration) (credential.Credential, error) {
	var doc document
	if json.Unmarshal([]byte(text), &doc) != nil {
		return credential.Credential{}, faulty(op, errors.New("the answer is not the JSON of credentials"))
	}
	if doc.Code != "" && doc.Code != "Success" {
		// A service says "not yet" with a status, and its definite no like this.
		e := &source.Error{Op: op, Code: upstream.Clean(doc.Code), Message: upstream.Clean(doc.Message), Kind: source.ErrRefused}
		if doc.Code == "AssumeRoleUnauthorizedAccess" {
			e.Kind, e.Hint = source.ErrAccessDenied, "check that the instance's role trusts ec2.amazonaws.com"
		}
		return credential.Credential{}, e
	}
	expires, err := time.Parse(time.RFC3339, doc.Expiration)
	switch {
	case doc.Token == "":
		return credential.Credential{}, faulty(op, errors.New("the answer has no session token"))
	case err != nil:
		return credential.Credential{}, faulty(op, errors.New("the answer has no expiration that is a time"))
	}
	c := credential.Credential{
		AccessKeyID: doc.AccessKeyID, SecretKey: credential.NewSecret(doc.SecretAccessKey), Token: credential.NewSecret(doc.Token),
		AccountID: doc.AccountID, RoleARN: upstream.Clean(doc.RoleARN), Issued: issued, Expires: expires.UTC(), Received: received,
	}
	if p := strings.SplitN(doc.RoleARN, ":", 6); c.AccountID == "" && len(p) == 6 {
		c.AccountID = p[4]
	}
	if err := credential.Check(c); err != nil {
		return credential.Credential{}, faulty(op, err)
	}
	return c, nil
}
