package devsts

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// An Issuer is an OIDC provider that says whatever it is told: it mints
// tokens, and serves its discovery document and its keys as an
// [http.Handler]. It is safe for concurrent use.
type Issuer struct {
	url  string
	path string // of url, without a slash at its end
	now  func() time.Time

	mu        sync.Mutex // guards what follows
	serial    int
	keys, old []jose.JSONWebKey // private: an RSA and a P-256 key
}

// NewIssuer returns the Issuer of that URL, which must be the one under which
// it is served. now is the clock that it mints by; both are required.
func NewIssuer(issuer string, now func() time.Time) *Issuer {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || now == nil {
		panic(fmt.Sprintf("devsts: issuer %q needs a URL and a clock", issuer))
	}
	i := &Issuer{url: issuer, path: strings.TrimSuffix(u.Path, "/"), now: now}
	i.Rotate()
	return i
}

// Rotate makes new keys. The previous pair stays published, as an identity
// provider does for tokens that are still out; the one before it goes.
func (i *Issuer) Rotate() {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("devsts: making a key: " + err.Error()) // the random source never fails
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("devsts: making a key: " + err.Error())
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.serial++
	private := func(k crypto.Signer, alg jose.SignatureAlgorithm) jose.JSONWebKey {
		return jose.JSONWebKey{Key: k, KeyID: fmt.Sprintf("%s-%d", strings.ToLower(string(alg)), i.serial), Algorithm: string(alg), Use: "sig"}
	}
	i.old, i.keys = i.keys, []jose.JSONWebKey{private(r, jose.RS256), private(e, jose.ES256)}
}

// Keys returns the public keys, for [Provider].
func (i *Issuer) Keys() (set jose.JSONWebKeySet) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, pair := range [][]jose.JSONWebKey{i.keys, i.old} {
		for _, k := range pair {
			set.Keys = append(set.Keys, k.Public())
		}
	}
	return set
}

// Mint returns a token with those claims, signed with RS256. iss, iat and exp,
// an hour ahead, are added when they are absent; a claim of nil is left out.
// Mint panics on a claim that JSON cannot hold.
func (i *Issuer) Mint(claims map[string]any) string { return i.mint(0, claims) }

// MintES256 is [Issuer.Mint] with ES256.
func (i *Issuer) MintES256(claims map[string]any) string { return i.mint(1, claims) }

func (i *Issuer) mint(which int, claims map[string]any) string {
	i.mu.Lock()
	k := i.keys[which]
	i.mu.Unlock()
	now := i.now()
	all := map[string]any{"iss": i.url, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Algorithm), Key: k}, (&jose.SignerOptions{}).WithType("JWT"))
	if err == nil {
		var token string
		if token, err = jwt.Signed(signer).Claims(all).Serialize(); err == nil {
			return token
		}
	}
	panic("devsts: minting a token: " + err.Error())
}

// ServeHTTP serves the discovery document and the keys.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var v any
	switch r.URL.Path {
	case i.path + "/.well-known/openid-configuration":
		v = map[string]any{
			"issuer":                                i.url,
			"jwks_uri":                              strings.TrimSuffix(i.url, "/") + "/jwks",
			"response_types_supported":              []string{"id_token"},
			"subject_types_supported":               []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256"},
		}
	case i.path + "/jwks":
		v = i.Keys()
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", i.now().UTC().Format(http.TimeFormat))
	_ = json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}
