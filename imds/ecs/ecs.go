// Package ecs is the wire protocol of ECS's credentials endpoint: at
// 169.254.170.2, and behind a token at any loopback address.
//
// # Ids
//
// An id is the name of a role, as it stands at the end of its ARN or, without
// one, in the configuration. What is set for a workload is one of
//
//	AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/role/app
//	AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/app
//	AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:51679/role/app
//
// In a query, as in /v1/credentials?id=app, a name is escaped: a plus sign
// there is a space.
//
// # Why not
//
// Not an id that nobody can guess, as ECS has it: whoever sees it has the
// role, and it stands in the environment of a container. Here a name proves
// nothing, and the gate goes by the caller. Not a role without a name: one
// address is for many callers, and an environment that names the role says
// what it expects. Not a failure document with status 200, as on EC2: every
// client of this protocol takes a 200 for credentials. Not every method, as
// ECS's agent: no client sends another than GET, and a browser can POST to an
// address that it cannot read. Not a redirect to a cleaner path: few clients
// follow one.
package ecs

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/rotation/credential"
)

// Server is what ECS's agent calls itself in the Server header: it sends none.
const Server = ""

// hold is how long a role without a credential is waited for, as on EC2: some
// clients give this address no more than a second.
const hold = 400 * time.Millisecond

// endpoint names this protocol to the gate.
const endpoint = "ecs"

// Options are the parts of a Handler. Gate and Now are required.
type Options struct {
	Gate *gate.Gate
	// Authorization is what every request must show in its Authorization
	// header, byte for byte and without a scheme. Empty asks for none.
	Authorization credential.Secret
	// Rejected is told of each request without the right Authorization; nil
	// for nobody. What comes after that is the gate's, and recorded there.
	Rejected func(caller.Caller, error)
	Now      func() time.Time
}

// A Handler answers for one listener.
type Handler struct {
	o    Options
	auth authorization
}

// New returns a Handler, or an error when no client could send the
// Authorization that it is to ask for.
func New(o Options) (*Handler, error) {
	auth, err := newAuthorization(o.Authorization)
	if err != nil {
		return nil, err
	}
	if o.Rejected == nil {
		o.Rejected = func(caller.Caller, error) {}
	}
	return &Handler{o: o, auth: auth}, nil
}

// Serve answers one request. Who lacks the Authorization learns nothing, not
// even which paths there are.
func (h *Handler) Serve(ctx context.Context, r *imds.Request) imds.Response {
	if err := h.auth.check(r); err != nil {
		h.o.Rejected(r.Caller, err)
		if errors.Is(err, errMissing) {
			return missing
		}
		return wrong
	}
	words, id, found := target(r)
	switch {
	case !found:
		return notFound
	case r.Method != "GET" && r.Method != "HEAD":
		return notAllowed
	case id == "":
		return words.noID
	case strings.ContainsFunc(id, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' }):
		return words.unknownID // no name has these, and no record needs them
	}
	return h.credentials(ctx, r.Caller, words, id)
}

// target finds the id that a request asks for, and the version that it asks
// in. An id that cannot be decoded is one that no role has.
func target(r *imds.Request) (words *version, id string, found bool) {
	if r.Path == "/v1/credentials" {
		return v1, queryID(r.Query), true
	}
	name, found := strings.CutPrefix(r.Path, "/v2/credentials/")
	if !found {
		name, found = strings.CutPrefix(r.Path, "/role/")
	}
	id, err := url.PathUnescape(name)
	if err != nil {
		id = "\x00"
	}
	return v2, id, found
}

// queryID is the id of a query, "" without one.
func queryID(query string) string {
	values, err := url.ParseQuery(query)
	switch ids := values["id"]; {
	case len(ids) > 1 || err != nil:
		return "\x00" // two readers could disagree about it
	case len(ids) == 1:
		return ids[0]
	}
	return ""
}

func (h *Handler) credentials(ctx context.Context, who caller.Caller, words *version, id string) imds.Response {
	ctx, cancel := context.WithTimeout(ctx, hold)
	defer cancel()
	c, err := h.o.Gate.Credential(ctx, endpoint, who, id)
	switch {
	case err == nil:
		return h.success(c)
	case errors.Is(err, gate.ErrDenied):
		return words.unknownID
	case errors.Is(err, gate.ErrUnauthorized):
		return refusal(403, "AssumeRoleUnauthorizedAccess", "This host cannot assume the role "+id+".")
	case errors.Is(err, gate.ErrRefused):
		return refusal(403, "Failed", "The upstream of this host does not give credentials of the role "+id+".")
	}
	return words.notReady
}
