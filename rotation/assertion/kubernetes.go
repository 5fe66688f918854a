package assertion

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// What a pod finds, unless it was told to mount no token.
const (
	KubernetesServer    = "https://kubernetes.default.svc"
	KubernetesCAFile    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
	KubernetesTokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"
)

// Kubernetes asks a cluster's API for a token of a service account, with the
// TokenRequest call. The cluster's issuer is what STS has to trust.
type Kubernetes struct {
	Server   string        // URL of the API server; https
	Token    Getter        // shows the API server who asks: a pod's own token, or one made for this host
	Account  string        // "namespace/name" of the service account; "" is the one of Token
	Audience string        // whom the token is for, such as "sts.amazonaws.com"
	Life     time.Duration // asked for; Kubernetes gives at least 10 minutes, and may give less than was asked for
	Bound    Object        // the token is worth nothing to the cluster once this is gone; zero for none

	HTTP Upstream // with the cluster's CA as its roots
	Now  func() time.Time
}

// An Object is what a token can be bound to.
type Object struct {
	Kind string // Pod, Secret or Node
	Name string
	UID  string // "" for whichever has the name
}

// A tokenRequest is what is sent and, with its status, what is answered.
type tokenRequest struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Spec       *tokenRequestSpec `json:"spec,omitempty"`
	Status     *struct {
		Token string `json:"token"`
	} `json:"status,omitempty"`
}

type tokenRequestSpec struct {
	Audiences         []string  `json:"audiences"`
	ExpirationSeconds int64     `json:"expirationSeconds"`
	BoundObjectRef    *boundRef `json:"boundObjectRef,omitempty"`
}

type boundRef struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
}

// Get makes one call, after that of Token. An error matches [ErrRefused] when
// the API server said no.
func (k Kubernetes) Get(ctx context.Context) (Token, error) {
	own, err := k.Token.Get(ctx)
	if err != nil {
		return Token{}, fmt.Errorf("the token to show to %s: %w", endpoint(k.Server), err)
	}
	namespace, name, err := k.account(own)
	if err != nil {
		return Token{}, err
	}
	op := fmt.Sprintf("asking %s for a token of service account %s/%s", endpoint(k.Server), namespace, name)
	ask := tokenRequest{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest", Spec: &tokenRequestSpec{
		Audiences: []string{k.Audience}, ExpirationSeconds: int64(k.Life / time.Second),
	}}
	if k.Bound != (Object{}) {
		ask.Spec.BoundObjectRef = &boundRef{"v1", k.Bound.Kind, k.Bound.Name, k.Bound.UID}
	}
	url := strings.TrimSuffix(k.Server, "/") + "/api/v1/namespaces/" + namespace + "/serviceaccounts/" + name + "/token"
	status, header, body, err := post(ctx, k.HTTP, url, own.Text, ask)
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", op, err)
	}
	if status != http.StatusCreated {
		return Token{}, upstream.After(header, k.explain(op, status, body, own.Text))
	}
	var answer tokenRequest
	if json.Unmarshal(body, &answer) != nil || answer.Status == nil || answer.Status.Token == "" {
		return Token{}, fmt.Errorf("%s: the answer is no TokenRequest with a token: is %s a Kubernetes API server?", op, endpoint(k.Server))
	}
	return fresh(answer.Status.Token, "the answer of "+endpoint(k.Server), k.Now().Add(k.HTTP.Skew()))
}

// account returns namespace and name, which become part of a path. The
// subject of our own token is not verified: whoever forged it could as well
// have asked in person.
func (k Kubernetes) account(own Token) (namespace, name string, err error) {
	account := k.Account
	if account == "" {
		var claims struct{ Sub string }
		part(own.Text.Reveal(), 1, &claims)
		own, found := strings.CutPrefix(claims.Sub, "system:serviceaccount:")
		if !found {
			return "", "", fmt.Errorf("the token for %s is of no service account: say whose token to ask for", endpoint(k.Server))
		}
		account = strings.Replace(own, ":", "/", 1)
	}
	namespace, name, _ = strings.Cut(account, "/")
	if !dnsName(namespace) || !dnsName(name) {
		return "", "", fmt.Errorf("%q is no service account: write namespace/name", upstream.Clean(account))
	}
	return namespace, name, nil
}

// dnsName reports whether s has the characters of a Kubernetes name, and
// begins and ends as one.
func dnsName(s string) bool {
	ok := s != "" && len(s) <= 253
	for i, c := range []byte(s) {
		inner := i > 0 && i < len(s)-1
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || inner && (c == '-' || c == '.'))
	}
	return ok
}

func (k Kubernetes) explain(op string, status int, body []byte, secret credential.Secret) error {
	var doc struct{ Kind, Reason, Message string }
	_ = json.Unmarshal(body, &doc) // what is no Status has no reason
	hint := map[int]string{
		http.StatusUnauthorized: "the API server does not take the token that was shown: is it of this cluster, and for the API server's audience?",
		http.StatusForbidden:    "allow the one that asks to create serviceaccounts/token of that name in that namespace",
		http.StatusNotFound:     "create the service account, or name another",
	}[status]
	return said(op, status, upstream.Clean(doc.Reason, secret), upstream.Clean(doc.Message, secret), doc.Kind == "Status" && definite(status), hint)
}

// post sends a document with a bearer token and returns what was answered.
func post(ctx context.Context, up Upstream, url string, bearer credential.Secret, doc any) (status int, header http.Header, body []byte, err error) {
	text, err := json.Marshal(doc)
	if err != nil {
		return 0, nil, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return 0, nil, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Authorization", "Bearer "+bearer.Reveal())
	resp, err := up.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		return 0, nil, nil, fmt.Errorf("reading the answer: %w", err)
	}
	return resp.StatusCode, resp.Header, b.Bytes(), nil
}
