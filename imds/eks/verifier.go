package eks

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Audience is that of the tokens which EKS's webhook mounts into pods.
const Audience = "pods.eks.amazonaws.com"

// leeway is what the clocks of this host and of the issuer may differ by. It
// is Kubernetes' own.
const leeway = time.Minute

// algorithms are those that Kubernetes signs with. None of them can be checked
// with a key that also signs.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.ES512}

// The failures of [Verifier.Verify]. Their texts have nothing of the token.
var (
	// ErrMissing matches a request without a token.
	ErrMissing = errors.New("there is no service account token: see AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE of the pod")
	// ErrMalformed matches what is no token.
	ErrMalformed = errors.New("the service account token cannot be parsed")
	// ErrTime matches a token that has expired, or is not valid yet.
	ErrTime = errors.New("the service account token does not hold now")
	// ErrUntrusted matches a token that the issuer has not signed, or not for
	// this use.
	ErrUntrusted = errors.New("the service account token is not accepted")
	// ErrKeys matches a token about which nothing can be said, because the
	// issuer's keys could not be had.
	ErrKeys = errors.New("the keys of the issuer are not at hand")
)

// A rejection is one of the failures with a reason for the bearer.
type rejection struct {
	kind   error
	reason string
}

func (r *rejection) Error() string { return r.kind.Error() + ": " + r.reason }
func (r *rejection) Unwrap() error { return r.kind }

func malformed(reason string) error { return &rejection{ErrMalformed, reason} }
func untrusted(reason string) error { return &rejection{ErrUntrusted, reason} }
func untimely(reason string) error  { return &rejection{ErrTime, reason} }

// A Pod is what a verified token says of its bearer. All of it is there.
type Pod struct {
	Namespace      string
	ServiceAccount string
	Name           string
	UID            string // of this pod, and no later one of the same name
}

// String is the namespace and the service account, with a slash between them.
func (p Pod) String() string { return p.Namespace + "/" + p.ServiceAccount }

// VerifierOptions are what a Verifier goes by.
type VerifierOptions struct {
	Issuer   string // of the tokens, exactly as they name it: a URL; required
	Audience string // that tokens must be for; "" is [Audience]
	// Keys returns the issuer's public keys, as new as can be had within ctx.
	// It is asked within requests, one at a time: once a minute, and once a
	// second while tokens name a key that is not among them. Required.
	Keys func(ctx context.Context) (jose.JSONWebKeySet, error)
	Now  func() time.Time // required
}

// A Verifier checks the tokens of one issuer. It may be used concurrently.
type Verifier struct {
	o      VerifierOptions
	known  atomic.Pointer[keySet] // nil before the first question
	asking chan struct{}          // full while somebody asks for keys
}

// NewVerifier returns a Verifier. It asks for no keys before it is used.
func NewVerifier(o VerifierOptions) *Verifier {
	o.Audience = cmp.Or(o.Audience, Audience)
	return &Verifier{o: o, asking: make(chan struct{}, 1)}
}

// Verify returns the pod that a token was made for. A token that is not bound
// to a pod is not accepted: it outlives whom it was given to.
func (v *Verifier) Verify(ctx context.Context, token string) (Pod, error) {
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(signed.Signatures) != 1 || signed.Signatures[0].Protected.KeyID == "" {
		return Pod{}, malformed("it is no JWT that is signed with RS256, ES256, ES384 or ES512 and names its key")
	}
	payload, err := v.payload(ctx, signed)
	if err != nil {
		return Pod{}, err
	}
	var c claims
	if json.Unmarshal(payload, &c) != nil { // go-jose's own: it takes no key twice
		return Pod{}, malformed("its claims are not those of a service account")
	}
	return v.pod(c)
}

// claims are those that Kubernetes writes.
type claims struct {
	jwt.Claims
	Kubernetes struct {
		Namespace      string `json:"namespace"`
		ServiceAccount struct {
			Name string `json:"name"`
		} `json:"serviceaccount"`
		Pod struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"pod"`
	} `json:"kubernetes.io"`
}

// pod checks claims whose signature holds.
func (v *Verifier) pod(c claims) (Pod, error) {
	err := c.ValidateWithLeeway(jwt.Expected{Issuer: v.o.Issuer, AnyAudience: jwt.Audience{v.o.Audience}, Time: v.o.Now()}, leeway)
	switch {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return Pod{}, untrusted("it names another issuer than " + v.o.Issuer)
	case errors.Is(err, jwt.ErrInvalidAudience):
		return Pod{}, untrusted("it is not for the audience " + v.o.Audience)
	case errors.Is(err, jwt.ErrExpired):
		return Pod{}, untimely("token is expired")
	case errors.Is(err, jwt.ErrNotValidYet):
		return Pod{}, untimely("token is not valid yet")
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return Pod{}, untimely("token used before issued")
	case err != nil:
		return Pod{}, untrusted("its claims do not hold")
	case c.Expiry == nil:
		return Pod{}, untrusted("it never expires")
	}
	k := c.Kubernetes
	p := Pod{Namespace: k.Namespace, ServiceAccount: k.ServiceAccount.Name, Name: k.Pod.Name, UID: k.Pod.UID}
	switch {
	case p.Name == "" || p.UID == "":
		return Pod{}, untrusted("it is not bound to a pod")
	case !isName(p.Namespace) || !isName(p.ServiceAccount) || !isName(p.Name) || !isName(strings.ToLower(p.UID)):
		return Pod{}, untrusted("it has a name that Kubernetes does not give")
	case c.Subject != "system:serviceaccount:"+p.Namespace+":"+p.ServiceAccount:
		return Pod{}, untrusted("its subject is not its service account")
	}
	return p, nil
}

// isName reports whether s can be a name in Kubernetes. What is between two of
// them, a slash or a colon, is in none.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 253
}

// fits reports whether k may check a signature with header h: the same key id,
// and nothing about the key that speaks against it. That its type and curve
// are those of the algorithm is checked with the signature.
func fits(k *jose.JSONWebKey, h jose.Header) bool {
	if k.KeyID != h.KeyID || k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != h.Algorithm {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		return true
	}
	return false
}
