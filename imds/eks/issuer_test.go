package eks_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hostrole/hostrole/imds/eks"
)

const issuer = "https://kubernetes.example.com"

// A pair is a key of an issuer.
type pair struct {
	id      string
	alg     jose.SignatureAlgorithm
	private crypto.Signer
}

func (p pair) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: p.private.Public(), KeyID: p.id, Algorithm: string(p.alg), Use: "sig"}
}

// keyring has the keys of the tests, made once. stranger's has the id of rsa,
// next is not published, and short is too short to be believed.
var keyring = sync.OnceValue(func() map[string]pair {
	newRSA := func(bits int) crypto.Signer {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		return k
	}
	newEC := func(curve elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	}
	return map[string]pair{
		"rsa":      {"rsa", jose.RS256, newRSA(2048)},
		"es256":    {"es256", jose.ES256, newEC(elliptic.P256())},
		"es384":    {"es384", jose.ES384, newEC(elliptic.P384())},
		"es512":    {"es512", jose.ES512, newEC(elliptic.P521())},
		"stranger": {"rsa", jose.RS256, newRSA(2048)},
		"next":     {"next", jose.ES256, newEC(elliptic.P256())},
		"short":    {"short", jose.RS256, newRSA(1024)},
	}
})

// published is a key set of those names.
func published(names ...string) jose.JSONWebKeySet {
	var s jose.JSONWebKeySet
	for _, n := range names {
		s.Keys = append(s.Keys, keyring()[n].public())
	}
	return s
}

func newVerifier(keys func(context.Context) (jose.JSONWebKeySet, error), now func() time.Time) *eks.Verifier {
	if keys == nil {
		keys = func(context.Context) (jose.JSONWebKeySet, error) {
			return published("short", "es256", "es384", "es512", "rsa"), nil
		}
	}
	return eks.NewVerifier(eks.VerifierOptions{Issuer: issuer, Keys: keys, Now: now})
}

// said are claims as Kubernetes writes them, for a pod of shop/cart, at the
// time that the host started. change may spoil them.
func said(change func(c map[string]any)) map[string]any {
	c := map[string]any{
		"aud": []string{eks.Audience},
		"exp": started.Add(24 * time.Hour).Unix(),
		"iat": started.Unix(),
		"iss": issuer,
		"jti": "8b6f0e4a-0000-4000-8000-000000000000",
		"kubernetes.io": map[string]any{
			"namespace":      "shop",
			"node":           map[string]any{"name": "node-1", "uid": "6d0a3c1e-0000-4000-8000-000000000000"},
			"pod":            map[string]any{"name": "cart-7d9c", "uid": "0d8f3b52-0000-4000-8000-000000000000"},
			"serviceaccount": map[string]any{"name": "cart", "uid": "5be41a0c-0000-4000-8000-000000000000"},
			"warnafter":      started.Add(time.Hour).Unix(),
		},
		"nbf": started.Unix(),
		"sub": "system:serviceaccount:shop:cart",
	}
	if change != nil {
		change(c)
	}
	return c
}

// set changes a claim; nil takes it out. One within another is written with a
// slash.
func set(path string, value any) func(map[string]any) {
	return func(c map[string]any) {
		segs := strings.Split(path, "/")
		for _, seg := range segs[:len(segs)-1] {
			inner := maps.Clone(c[seg].(map[string]any))
			c[seg] = inner
			c = inner
		}
		if value == nil {
			delete(c, segs[len(segs)-1])
			return
		}
		c[segs[len(segs)-1]] = value
	}
}

// account makes claims those of another service account in the namespace.
func account(name string) func(map[string]any) {
	return func(c map[string]any) {
		set("kubernetes.io/serviceaccount/name", name)(c)
		set("sub", "system:serviceaccount:shop:"+name)(c)
	}
}

// sign makes a token of claims, or of a payload that is text already.
func sign(key pair, claims any) string {
	opts := (&jose.SignerOptions{}).WithHeader("kid", key.id)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: key.alg, Key: key.private}, opts)
	if err != nil {
		panic(err)
	}
	payload, ok := claims.(string)
	if !ok {
		b, err := json.Marshal(claims)
		if err != nil {
			panic(err)
		}
		payload = string(b)
	}
	signed, err := signer.Sign([]byte(payload))
	if err != nil {
		panic(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return token
}

// forge writes a token with any header at all, and any signature.
func forge(header, payload string, signature []byte) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc([]byte(payload)) + "." + enc(signature)
}

// flip changes one bit of one part of a token, counted from 0.
func flip(token string, part int) string {
	parts := strings.Split(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(parts[part])
	if err != nil {
		panic(err)
	}
	b[len(b)-2] ^= 1
	parts[part] = base64.RawURLEncoding.EncodeToString(b)
	return strings.Join(parts, ".")
}

// specimens are the tokens that scripts speak of.
var specimens = sync.OnceValue(func() map[string]string {
	key := keyring()["rsa"]
	good := sign(key, said(nil))
	return map[string]string{
		"T":             good,
		"T.es256":       sign(keyring()["es256"], said(nil)),
		"T.es384":       sign(keyring()["es384"], said(nil)),
		"T.es512":       sign(keyring()["es512"], said(nil)),
		"T.books":       sign(key, said(account("books"))),
		"T.disk":        sign(key, said(account("disk"))),
		"T.nobody":      sign(key, said(account("nobody"))),
		"T.changed":     flip(good, 2),
		"T.header":      flip(good, 0),
		"T.claims":      flip(good, 1),
		"T.stranger":    sign(keyring()["stranger"], said(nil)),
		"T.next":        sign(keyring()["next"], said(nil)),
		"T.expired":     sign(key, said(set("exp", started.Add(-2*time.Minute).Unix()))),
		"T.early":       sign(key, said(set("nbf", started.Add(2*time.Minute).Unix()))),
		"T.future":      sign(key, said(set("iat", started.Add(2*time.Minute).Unix()))),
		"T.issuer":      sign(key, said(set("iss", issuer+"/"))),
		"T.audience":    sign(key, said(set("aud", []string{"sts.amazonaws.com"}))),
		"T.unbound":     sign(key, said(set("kubernetes.io/pod", nil))),
		"T.subject":     sign(key, said(set("sub", "system:serviceaccount:shop:books"))),
		"T.none":        forge(`{"alg":"none","kid":"rsa"}`, `{}`, nil),
		"T.nokid":       forge(`{"alg":"RS256"}`, `{}`, []byte("x")),
		"T.twoparts":    good[:strings.LastIndexByte(good, '.')],
		"T.notjson":     sign(key, "hello"),
		"T.undecodable": "eyJ!." + strings.SplitN(good, ".", 2)[1],
	}
})

func TestSpecimensDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, token := range specimens() {
		if other := seen[token]; other != "" {
			t.Errorf("%s and %s are the same token", name, other)
		}
		seen[token] = name
	}
}
