// Package devsts is a small but strict STS for `hostrole demo` and for tests:
// it checks SigV4, OIDC and SAML signatures, times, audiences, trust and every
// limit on a parameter, refuses with AWS's codes, and breaks on demand.
//
// # Why not
//
// Not moto or LocalStack: they check no signature, so a test against them
// passes with a client that AWS refuses. Not MinIO: it knows neither role nor
// chain. Not a handler per test: an answer that each test writes for itself
// proves that the client agrees with the test, not with AWS. Not AWS: a demo
// has no account, and nobody can make AWS fail when a test needs it to.
//
// # What it leaves out
//
// Identity policies: whom a role trusts may assume it. Parameters in the query
// string and presigned requests, which AWS takes: parameters belong in the
// body here. MFA and provided contexts: their parameters are refused as
// unknown. Encrypted assertions, and the sign-in endpoints of other partitions
// than aws.
package devsts

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Options say what a Server knows.
type Options struct {
	Account    string           // 12 digits; required
	Region     string           // the only one that a signature may name; required
	Users      []User           // long-term keys
	Roles      []Role           // roles that can be assumed, of any account
	Providers  []Provider       // OIDC providers of Account
	OAuth      []OAuthProvider  // those that AWS knows without a provider in the account
	SAML       []SAMLProvider   // SAML providers, of any account
	MinSession time.Duration    // shortest session that can be asked for: whole seconds, default 15 minutes as AWS
	Now        func() time.Time // the Server's clock; required
	Seed       []byte           // makes every key and id of a Server repeatable; default random
}

// A User has long-term keys.
type User struct {
	ARN             string // arn:aws:iam::111122223333:user/name, or :root, which cannot assume a role
	AccessKeyID     string
	SecretAccessKey string
}

// A Role can be assumed by whom it trusts.
type Role struct {
	ARN               string        // arn:aws:iam::111122223333:role/path/name
	Principals        []string      // ARNs trusted to AssumeRole: a user, a role (each of its sessions), one session, an account's root (all of the account)
	ExternalID        string        // required of AssumeRole; "" requires none
	OIDC              []OIDCTrust   // who may AssumeRoleWithWebIdentity: any of them
	OAuth             []OAuthTrust  // likewise, with an access token
	SAML              []SAMLTrust   // who may AssumeRoleWithSAML: any of them
	TagSession        bool          // the trust allows sts:TagSession, which inherited tags need as well
	SetSourceIdentity bool          // the trust allows sts:SetSourceIdentity, which an inherited identity needs as well
	MaxSession        time.Duration // longest session: up to 12 hours, default 1 hour
}

// OIDCTrust is one statement of a trust policy.
type OIDCTrust struct {
	Issuer    string   // of a Provider
	Audiences []string // one must be the token's; empty means each that the Provider has
	Subject   string   // pattern of sub with * and ?; "*" for anyone
}

// A Provider is an OIDC provider that the account trusts to name people.
type Provider struct {
	Issuer    string                    // the token's iss, to the letter
	Audiences []string                  // client ids; one must be the token's azp, or its aud when it has no azp
	Keys      func() jose.JSONWebKeySet // public keys; nil fetches them at each use from Issuer, an http URL on a loopback address
}

// A Server is an STS. It is an [http.Handler], safe for concurrent use, holds
// no connection and no goroutine, and bounds its memory: sessions live in
// their own tokens.
type Server struct {
	account, region string
	minSession      time.Duration
	now             func() time.Time
	users           map[string]User // by access key id
	roles           map[string]Role // by ARN
	providers       map[string]Provider
	oauth           map[string]OAuthProvider // by id
	saml            map[string]SAMLProvider  // by ARN
	seed            []byte
	fetch           *http.Client // to providers
	generation      atomic.Uint64
	requests        atomic.Uint64

	mu     sync.Mutex // guards what follows
	faults []*Fault   // oldest first
	calls  []Call     // a ring once it is full
	next   int        // where the ring goes on
	counts map[string]int
}

// maxCalls is the size of the log. A Call keeps at most maxParams bytes.
const (
	maxCalls  = 512
	maxParams = 64 << 10
	maxBody   = 512 << 10 // a SAML assertion of 100,000 characters, escaped, fits
)

// New returns a Server. Options that could never work are a mistake in the
// program, so New panics on them.
func New(o Options) *Server {
	s := &Server{
		account: o.Account, region: o.Region, minSession: o.MinSession, now: o.Now, seed: slices.Clone(o.Seed),
		users: map[string]User{}, roles: map[string]Role{}, providers: map[string]Provider{}, saml: map[string]SAMLProvider{},
		oauth: map[string]OAuthProvider{},
		fetch: loopbackClient(), counts: map[string]int{},
	}
	if s.minSession == 0 {
		s.minSession = 15 * time.Minute
	}
	if len(s.seed) == 0 {
		s.seed = make([]byte, 32)
		_, _ = rand.Read(s.seed) // never fails
	}
	switch {
	case s.now == nil:
		panic("devsts: Options.Now is required")
	case !accountID.MatchString(s.account) || s.region == "":
		panic("devsts: Options.Account must have 12 digits and Options.Region must be set")
	case s.minSession < time.Second || s.minSession > maxSession || s.minSession%time.Second != 0:
		panic("devsts: Options.MinSession must be whole seconds, 1s to 12h")
	}
	for _, u := range o.Users {
		if u.AccessKeyID == "" || u.SecretAccessKey == "" || parseARN(u.ARN).account == "" {
			panic("devsts: a user needs an ARN and both keys")
		}
		s.users[u.AccessKeyID] = u
	}
	for _, r := range o.Roles {
		if r.MaxSession == 0 {
			r.MaxSession = time.Hour
		}
		if parseARN(r.ARN).role() == "" || r.MaxSession < s.minSession || r.MaxSession > maxSession {
			panic(fmt.Sprintf("devsts: role %q needs the ARN of a role and a longest session of %v to %v", r.ARN, s.minSession, maxSession))
		}
		s.roles[r.ARN] = r
	}
	for _, p := range o.Providers {
		if p.Keys == nil && !loopbackURL(p.Issuer) {
			panic(fmt.Sprintf("devsts: provider %q needs keys, or an issuer that is http on a loopback address", p.Issuer))
		}
		s.providers[p.Issuer] = p
	}
	for _, p := range o.OAuth {
		if !oauthProviders[p.ID] || p.Introspect == nil {
			panic(fmt.Sprintf("devsts: OAuth provider %q is none that AWS knows, or has no Introspect", p.ID))
		}
		s.oauth[p.ID] = p
	}
	for _, p := range o.SAML {
		if parseARN(p.ARN).samlProvider() == "" || p.Certificates == nil {
			panic(fmt.Sprintf("devsts: SAML provider %q needs the ARN of one, and certificates", p.ARN))
		}
		s.saml[p.ARN] = p
	}
	return s
}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{r: r, id: s.requestID()}
	refused := q.read(w)
	call := Call{RequestID: q.id, Action: q.form["Action"], RoleARN: q.form["RoleArn"], SessionName: q.form["RoleSessionName"], Params: q.shown()}

	f := s.fault(call.Action, call.RoleARN)
	q.now = s.now().Add(f.Skew).UTC()
	var a answer
	switch {
	case f.instead != nil:
		a = f.instead(&f, q.id)
	case refused != nil:
		a = refused.answer(q.id)
	default:
		res, err := s.act(q)
		if err != nil {
			a = err.answer(q.id)
			break
		}
		if f.alter != nil {
			f.alter(&f, q.now, res)
		}
		a = res.answer(q.form["Action"], q.id)
		if f.mangle != nil {
			a.body = f.mangle(a.body)
		}
	}
	a.id, a.date = q.id, q.now

	call.Time, call.Principal, call.Status, call.Code, call.Fault = q.now, q.caller.arn, a.status, a.code, f.Name
	if f.cuts {
		call.Status, call.Code = 0, ""
	}
	s.record(call)
	if f.send != nil {
		f.send(&f, w, r, a)
		return
	}
	a.write(w)
}

// act does what q asks for: who first, then what, then whether, as AWS.
func (s *Server) act(q *request) (*result, *refusal) {
	action, version := q.form["Action"], q.form["Version"]
	var do func(*request) (*result, *refusal)
	signed := true
	switch action {
	case "":
		return nil, &refusal{400, "MissingAction", "the body has no parameter Action, or is no form"}
	case "AssumeRole":
		do = s.assumeRole
	case "AssumeRoleWithWebIdentity":
		do, signed = s.assumeRoleWithWebIdentity, false
	case "AssumeRoleWithSAML":
		do, signed = s.assumeRoleWithSAML, false
	case "GetCallerIdentity":
		do = s.getCallerIdentity
	}
	if version == "" {
		version = "NO_VERSION_SPECIFIED"
	}
	if do == nil || version != apiVersion {
		return nil, &refusal{400, "InvalidAction", fmt.Sprintf("Could not find operation %s for version %s", cut(action), cut(version))}
	}
	if signed {
		var refused *refusal
		if q.caller, refused = s.authenticate(q); refused != nil {
			return nil, refused
		}
	} else if q.r.Header["Authorization"] != nil || q.r.Header["X-Amz-Security-Token"] != nil {
		return nil, &refusal{400, "InvalidParameterCombination", action + " is not signed: the request must carry no Authorization and no X-Amz-Security-Token"}
	}
	switch {
	case q.r.URL.RawQuery != "" || q.r.URL.ForceQuery:
		return nil, &refusal{404, "MalformedQueryString", "parameters belong in the body, not in the query string"}
	case q.r.URL.Path != "/":
		return nil, &refusal{404, "UnknownOperationException", "the only path is /"}
	case q.r.Method != http.MethodPost:
		return nil, &refusal{405, "MethodNotAllowed", "the only method is POST"}
	}
	return do(q)
}

// derive makes n repeatable bytes for a purpose and a number.
func (s *Server) derive(purpose string, number uint64, n int) []byte {
	h := hmac.New(sha256.New, s.seed)
	_, _ = fmt.Fprintf(h, "%s\x00", purpose)
	_ = binary.Write(h, binary.BigEndian, number)
	return h.Sum(nil)[:n]
}

// requestID is a UUID.
func (s *Server) requestID() string {
	b := s.derive("request", s.requests.Add(1), 16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// A Call is one request as the Server took it.
type Call struct {
	Time        time.Time         // by the Server's clock, skew included
	RequestID   string            // as answered
	Action      string            // as asked, known or not
	Principal   string            // ARN of the signer, or "issuer subject" of a token that held; "" when nobody was recognised
	RoleARN     string            // as asked
	SessionName string            // as asked
	Params      map[string]string // all that was sent, byte for byte; in place of a token or an assertion its length
	Status      int               // HTTP status of the answer; 0 when the connection was cut instead
	Code        string            // error code of the answer; "" for success and for an answer without one
	Fault       string            // name of the Fault that was applied; "" without one
}

func (s *Server) record(c Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[""]++
	if _, known := s.roles[c.RoleARN]; known {
		s.counts[c.RoleARN]++
	}
	if len(s.calls) < maxCalls {
		s.calls = append(s.calls, c)
		return
	}
	s.calls[s.next] = c
	s.next = (s.next + 1) % maxCalls
}

// Calls returns the latest 512 calls, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.calls[s.next:], s.calls[:s.next])
}

// CallCount returns how many calls have named a configured role since New,
// refused and broken ones too; "" counts every call.
func (s *Server) CallCount(roleARN string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[roleARN]
}

// shown is what the log keeps of the parameters.
func (q *request) shown() map[string]string {
	kept, room := map[string]string{}, maxParams
	for _, name := range q.names {
		v := q.form[name]
		if name == "WebIdentityToken" || name == "SAMLAssertion" || name == "TokenCode" {
			v = fmt.Sprintf("[%d bytes]", len(v))
		}
		if room -= len(name) + len(v) + 64; room < 0 {
			break
		}
		kept[name] = v
	}
	return kept
}
