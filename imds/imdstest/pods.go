package imdstest

import (
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
	"time"

	"github.com/go-jose/go-jose/v4"
)

// PodIssuer is the issuer of [PodTokens].
const PodIssuer = "https://kubernetes.example.com"

// A Pair is a key of an issuer of pods' tokens.
type Pair struct {
	ID      string
	Alg     jose.SignatureAlgorithm
	Private crypto.Signer
}

// Public is what the issuer publishes of it.
func (p Pair) Public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: p.Private.Public(), KeyID: p.ID, Algorithm: string(p.Alg), Use: "sig"}
}

// PodKeys are the keys of an issuer, made once: rsa, es256, es384 and es512; of
// stranger, which has the id of rsa; next, which is not published; and short,
// which is too short to be believed.
var PodKeys = sync.OnceValue(func() map[string]Pair {
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
	return map[string]Pair{
		"rsa":      {"rsa", jose.RS256, newRSA(2048)},
		"es256":    {"es256", jose.ES256, newEC(elliptic.P256())},
		"es384":    {"es384", jose.ES384, newEC(elliptic.P384())},
		"es512":    {"es512", jose.ES512, newEC(elliptic.P521())},
		"stranger": {"rsa", jose.RS256, newRSA(2048)},
		"next":     {"next", jose.ES256, newEC(elliptic.P256())},
		"short":    {"short", jose.RS256, newRSA(1024)},
	}
})

// PublishedKeys is a key set of those names.
func PublishedKeys(names ...string) jose.JSONWebKeySet {
	var s jose.JSONWebKeySet
	for _, n := range names {
		s.Keys = append(s.Keys, PodKeys()[n].Public())
	}
	return s
}

// PodClaims are claims as Kubernetes writes them, for a pod of shop/cart, issued
// at that time. change may spoil them.
func PodClaims(started time.Time, change func(c map[string]any)) map[string]any {
	c := map[string]any{
		"aud": []string{"pods.eks.amazonaws.com"},
		"exp": started.Add(24 * time.Hour).Unix(),
		"iat": started.Unix(),
		"iss": PodIssuer,
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

// SetClaim changes a claim; nil takes it out. One within another is written with a
// slash.
func SetClaim(path string, value any) func(map[string]any) {
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

// SetAccount makes claims those of another service account in the namespace.
func SetAccount(name string) func(map[string]any) {
	return func(c map[string]any) {
		SetClaim("kubernetes.io/serviceaccount/name", name)(c)
		SetClaim("sub", "system:serviceaccount:shop:"+name)(c)
	}
}

// SignClaims makes a token of claims, or of a payload that is text already.
func SignClaims(key Pair, claims any) string {
	opts := (&jose.SignerOptions{}).WithHeader("kid", key.ID)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: key.Alg, Key: key.Private}, opts)
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

// ForgeToken writes a token with any header at all, and any signature.
func ForgeToken(header, payload string, signature []byte) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc([]byte(payload)) + "." + enc(signature)
}

// FlipToken changes one bit of one part of a token, counted from 0.
func FlipToken(token string, part int) string {
	parts := strings.Split(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(parts[part])
	if err != nil {
		panic(err)
	}
	b[len(b)-2] ^= 1
	parts[part] = base64.RawURLEncoding.EncodeToString(b)
	return strings.Join(parts, ".")
}

// PodTokens are the tokens that scripts speak of, as they are at that time.
func PodTokens(started time.Time) map[string]string {
	key := PodKeys()["rsa"]
	said := func(change func(map[string]any)) map[string]any { return PodClaims(started, change) }
	good := SignClaims(key, said(nil))
	return map[string]string{
		"T":             good,
		"T.es256":       SignClaims(PodKeys()["es256"], said(nil)),
		"T.es384":       SignClaims(PodKeys()["es384"], said(nil)),
		"T.es512":       SignClaims(PodKeys()["es512"], said(nil)),
		"T.books":       SignClaims(key, said(SetAccount("books"))),
		"T.disk":        SignClaims(key, said(SetAccount("disk"))),
		"T.nobody":      SignClaims(key, said(SetAccount("nobody"))),
		"T.changed":     FlipToken(good, 2),
		"T.header":      FlipToken(good, 0),
		"T.claims":      FlipToken(good, 1),
		"T.stranger":    SignClaims(PodKeys()["stranger"], said(nil)),
		"T.next":        SignClaims(PodKeys()["next"], said(nil)),
		"T.expired":     SignClaims(key, said(SetClaim("exp", started.Add(-2*time.Minute).Unix()))),
		"T.early":       SignClaims(key, said(SetClaim("nbf", started.Add(2*time.Minute).Unix()))),
		"T.future":      SignClaims(key, said(SetClaim("iat", started.Add(2*time.Minute).Unix()))),
		"T.issuer":      SignClaims(key, said(SetClaim("iss", PodIssuer+"/"))),
		"T.audience":    SignClaims(key, said(SetClaim("aud", []string{"sts.amazonaws.com"}))),
		"T.unbound":     SignClaims(key, said(SetClaim("kubernetes.io/pod", nil))),
		"T.subject":     SignClaims(key, said(SetClaim("sub", "system:serviceaccount:shop:books"))),
		"T.none":        ForgeToken(`{"alg":"none","kid":"rsa"}`, `{}`, nil),
		"T.nokid":       ForgeToken(`{"alg":"RS256"}`, `{}`, []byte("x")),
		"T.twoparts":    good[:strings.LastIndexByte(good, '.')],
		"T.notjson":     SignClaims(key, "hello"),
		"T.undecodable": "eyJ!." + strings.SplitN(good, ".", 2)[1],
	}
}
