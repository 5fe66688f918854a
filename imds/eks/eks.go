// Package eks is the wire protocol of EKS Pod Identity's agent: at
// 169.254.170.23 and [fd00:ec2::23], for pods that show the token of their
// service account.
//
// # Why not
//
// Not the address of a pod, nor a container found by it: addresses are used
// again. Not the token's word before its signature was checked, as AWS's agent
// does, which leaves that to a service in the region. Not "Bearer" before the
// token: no client sends it here, and one that does speaks to somebody else.
// Not AWS's texts to the last word: those after the colon are of its
// libraries.
package eks

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/rotation/credential"
)

// Server is what EKS's agent calls itself in the Server header: it sends none.
const Server = ""

// path is the only one that there is.
const path = "/v1/credentials"

// hold is how long a request waits, for the issuer's keys and for a role
// without a credential together.
const hold = 400 * time.Millisecond

// endpoint names this protocol to the gate.
const endpoint = "eks"

// Options are the parts of a Handler. All but Rejected are required.
type Options struct {
	Gate     *gate.Gate
	Verifier *Verifier
	// Name adds a verified pod to what the kernel said of a caller.
	Name func(caller.Caller, Pod) caller.Caller
	// Addresses are those of the listener. A Host header must be one of them.
	Addresses []netip.Addr
	// Rejected is told of each token that does not hold, with an error that
	// has nothing of it; nil for nobody. What comes after that is the gate's,
	// and recorded there.
	Rejected func(caller.Caller, error)
	Now      func() time.Time
}

// A Handler answers for one listener.
type Handler struct {
	o     Options
	hosts []string
}

// New returns a Handler.
func New(o Options) *Handler {
	if o.Rejected == nil {
		o.Rejected = func(caller.Caller, error) {}
	}
	h := &Handler{o: o}
	for _, a := range o.Addresses {
		h.hosts = append(h.hosts, a.String())
	}
	return h
}

// Serve answers one request. The order of the checks is that of AWS's agent:
// the path, the Host, the token.
func (h *Handler) Serve(ctx context.Context, r *imds.Request) imds.Response {
	switch {
	case r.Path != path:
		return text(404, "404 page not found")
	case r.Method != "GET" && r.Method != "HEAD":
		resp := text(405, "Method Not Allowed")
		resp.Head = append(resp.Head, imds.Field{Name: "Allow", Value: "GET, HEAD"})
		return resp
	}
	if host, named := hostOf(r); named && !slices.Contains(h.hosts, host) {
		return text(403, fmt.Sprintf("Access Denied. Called agent through invalid address, please use either %s address not %s", h.hosts, host))
	}
	ctx, cancel := context.WithTimeout(ctx, hold)
	defer cancel()
	pod, err := h.identify(ctx, r)
	if err != nil {
		h.o.Rejected(r.Caller, err)
		return rejected(err)
	}
	return h.credentials(ctx, h.o.Name(r.Caller, pod), pod)
}

// hostOf is the Host of a request without port and brackets. A request of
// HTTP/1.0 may have none.
func hostOf(r *imds.Request) (host string, named bool) {
	host, n := r.Lookup("host")
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	return host, n > 0
}

func (h *Handler) identify(ctx context.Context, r *imds.Request) (Pod, error) {
	switch token, n := r.Lookup("authorization"); {
	case token == "" && n < 2:
		return Pod{}, ErrMissing
	case n > 1:
		return Pod{}, malformed("there is more than one")
	default:
		return h.o.Verifier.Verify(ctx, token)
	}
}

func (h *Handler) credentials(ctx context.Context, who caller.Caller, pod Pod) imds.Response {
	own, ok := h.o.Gate.Own(endpoint, who)
	if !ok {
		return service(404, "ResourceNotFoundException", "This host has no role for the service account "+pod.String())
	}
	c, err := h.o.Gate.Credential(ctx, endpoint, who, own.Name)
	switch {
	case err == nil:
		return h.success(c, own)
	case errors.Is(err, gate.ErrDenied): // the rules changed in between
		return service(404, "ResourceNotFoundException", "This host has no role for the service account "+pod.String())
	case errors.Is(err, gate.ErrRefused):
		return service(403, "AccessDeniedException", "The upstream of this host does not give credentials of the role "+own.Name)
	}
	return service(503, "ServiceUnavailableException", "The role "+own.Name+" has no live credential yet")
}

// stamp is the only form of time that every SDK parses: UTC, whole seconds.
const stamp = "2006-01-02T15:04:05Z"

// endless is the expiry, from now, that a document shows for a credential that
// never expires: clients that find none come never back.
const endless = 6 * time.Hour

// success is the document of c, in the order of AWS's agent. An account that
// is not known is left out: clients make the names of endpoints of it.
func (h *Handler) success(c credential.Credential, role gate.Role) imds.Response {
	expires, account := c.Expires, c.AccountID
	if expires.IsZero() {
		expires = h.o.Now().Add(endless)
	}
	if parts := strings.Split(role.ARN, ":"); account == "" && len(parts) > 4 {
		account = parts[4]
	}
	body, _ := json.Marshal(struct { // strings cannot fail
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
		AccountID       string `json:"AccountId,omitempty"`
		Expiration      string
	}{c.AccessKeyID, c.SecretKey.Reveal(), c.Token.Reveal(), account, expires.UTC().Format(stamp)})
	return imds.Response{Status: 200, Head: []imds.Field{{Name: "Content-Type", Value: "application/json"}}, Body: body}
}

// rejected is the answer to a token that does not hold.
func rejected(err error) imds.Response {
	reason := ""
	if r, ok := errors.AsType[*rejection](err); ok {
		reason = r.reason
	}
	switch {
	case errors.Is(err, ErrMissing):
		return text(400, "Service account token cannot be empty")
	case errors.Is(err, ErrMalformed):
		return text(400, "Service account token cannot be parsed: "+reason)
	case errors.Is(err, ErrTime):
		return text(400, "Service account token failed basic claim validations: "+reason)
	case errors.Is(err, ErrUntrusted):
		return service(400, "InvalidTokenException", "The service account token is not accepted: "+reason)
	}
	return service(503, "ServiceUnavailableException", "The keys of the token's issuer are not at hand")
}

// service is a failure as AWS's agent passes it on from its service.
func service(status int, code, message string) imds.Response {
	fault := "client"
	if status >= 500 {
		fault = "server"
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: it ends the program
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	resp := text(status, fmt.Sprintf("[%x-%x-%x-%x-%x]: (%s): %s, fault: %s", id[:4], id[4:6], id[6:8], id[8:10], id[10:], code, message, fault))
	if status == 503 {
		resp.Head = append(resp.Head, imds.Field{Name: "Retry-After", Value: "1"})
	}
	return resp
}

// text is an answer as Go's http.Error writes it, line end included.
func text(status int, line string) imds.Response {
	return imds.Response{Status: status, Body: []byte(line + "\n"), Head: []imds.Field{
		{Name: "Content-Type", Value: "text/plain; charset=utf-8"}, {Name: "X-Content-Type-Options", Value: "nosniff"},
	}}
}
