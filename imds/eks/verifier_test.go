package eks_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hostrole/hostrole/imds/eks"
	"github.com/hostrole/hostrole/imds/imdstest"
)

func at(offset time.Duration) func() time.Time {
	return func() time.Time { return started.Add(offset) }
}

func TestVerifiedPod(t *testing.T) {
	t.Parallel()
	got, err := newVerifier(nil, at(0)).Verify(t.Context(), specimens()["T"])
	want := eks.Pod{Namespace: "shop", ServiceAccount: "cart", Name: "cart-7d9c", UID: "0d8f3b52-0000-4000-8000-000000000000"}
	if got != want || err != nil {
		t.Errorf("got %+v and %v, want %+v", got, err, want)
	}
	if got.String() != "shop/cart" {
		t.Errorf("String() = %q", got)
	}
}

// Each claim that is checked, spoiled alone.
func TestClaims(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 254)
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   error
	}{
		"as Kubernetes writes them":    {nil, nil},
		"one audience as text":         {set("aud", eks.Audience), nil},
		"one audience of two":          {set("aud", []string{"x", eks.Audience}), nil},
		"no nbf and no iat":            {func(c map[string]any) { delete(c, "nbf"); delete(c, "iat") }, nil},
		"no audience":                  {set("aud", nil), eks.ErrUntrusted},
		"an empty audience":            {set("aud", []string{}), eks.ErrUntrusted},
		"a longer audience":            {set("aud", eks.Audience+".example.com"), eks.ErrUntrusted},
		"an audience that is a number": {set("aud", 7), eks.ErrMalformed},
		"no issuer":                    {set("iss", nil), eks.ErrUntrusted},
		"another issuer":               {set("iss", "https://example.com"), eks.ErrUntrusted},
		"never expires":                {set("exp", nil), eks.ErrUntrusted},
		"expires as text":              {set("exp", "soon"), eks.ErrMalformed},
		"expires beyond all time":      {set("exp", 1e300), eks.ErrMalformed},
		"expired":                      {set("exp", started.Add(-2*time.Minute).Unix()), eks.ErrTime},
		"expires in 1970":              {set("exp", 0), eks.ErrTime},
		"not yet":                      {set("nbf", started.Add(2*time.Minute).Unix()), eks.ErrTime},
		"from the future":              {set("iat", started.Add(2*time.Minute).Unix()), eks.ErrTime},
		"no kubernetes.io":             {set("kubernetes.io", nil), eks.ErrUntrusted},
		"kubernetes.io is text":        {set("kubernetes.io", "x"), eks.ErrMalformed},
		"no namespace":                 {set("kubernetes.io/namespace", nil), eks.ErrUntrusted},
		"no service account":           {set("kubernetes.io/serviceaccount", nil), eks.ErrUntrusted},
		"no pod":                       {set("kubernetes.io/pod", nil), eks.ErrUntrusted},
		"bound to a secret instead":    {set("kubernetes.io/pod", map[string]any{"ref": "secret"}), eks.ErrUntrusted},
		"no name of the pod":           {set("kubernetes.io/pod/name", ""), eks.ErrUntrusted},
		"no uid of the pod":            {set("kubernetes.io/pod/uid", nil), eks.ErrUntrusted},
		"an upper-case uid":            {set("kubernetes.io/pod/uid", "0D8F"), nil},
		"a slash in the namespace": {func(c map[string]any) {
			set("kubernetes.io/namespace", "a/b")(c)
			c["sub"] = "system:serviceaccount:a/b:cart"
		}, eks.ErrUntrusted},
		"a colon in the account":        {account("a:b"), eks.ErrUntrusted},
		"a long account":                {account(long), eks.ErrUntrusted},
		"the longest account":           {account(long[1:]), nil},
		"a line feed in the pod":        {set("kubernetes.io/pod/name", "a\nb"), eks.ErrUntrusted},
		"no subject":                    {set("sub", nil), eks.ErrUntrusted},
		"another account's subject":     {set("sub", "system:serviceaccount:shop:books"), eks.ErrUntrusted},
		"another namespace's subject":   {set("sub", "system:serviceaccount:other:cart"), eks.ErrUntrusted},
		"a subject that is more":        {set("sub", "system:serviceaccount:shop:cart:x"), eks.ErrUntrusted},
		"a node that nobody asks about": {set("kubernetes.io/node", 7), nil},
	} {
		_, err := newVerifier(nil, at(0)).Verify(t.Context(), sign(keyring()["es256"], said(c.change)))
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A claim that stands there twice could be one thing to us and another to
// those who look at it later.
func TestClaimsTwice(t *testing.T) {
	t.Parallel()
	text := fmt.Sprintf(`{"iss":%q,"aud":[%q],"exp":%d,"sub":"system:serviceaccount:shop:cart","kubernetes.io":{"namespace":"shop","pod":{"name":"a","uid":"b"},"serviceaccount":{"name":"cart"}}`,
		issuer, eks.Audience, started.Add(time.Hour).Unix())
	for tail, want := range map[string]error{"}": nil, `,"sub":"x"}`: eks.ErrMalformed, `,"ISS":"x"}`: nil, "} ": nil, "}{}": eks.ErrMalformed, "": eks.ErrMalformed} {
		_, err := newVerifier(nil, at(0)).Verify(t.Context(), sign(keyring()["es256"], text+tail))
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("with %q at the end: %v, want %v", tail, err, want)
		}
	}
}

// The clocks of two machines may differ by a minute.
func TestLeeway(t *testing.T) {
	t.Parallel()
	token := sign(keyring()["es256"], said(set("exp", started.Add(time.Hour).Unix())))
	for offset, ok := range map[time.Duration]bool{
		-time.Hour: false, -61 * time.Second: false, -time.Minute: true, 0: true, time.Hour: true,
		time.Hour + time.Minute: true, time.Hour + 61*time.Second: false, 100 * time.Hour: false,
	} {
		_, err := newVerifier(nil, at(offset)).Verify(t.Context(), token)
		if ok != (err == nil) || !ok && !errors.Is(err, eks.ErrTime) {
			t.Errorf("%v after its begin: %v, want an error of time: %v", offset, err, !ok)
		}
	}
}

// What a token says of its own key and algorithm is not believed.
func TestKeysAreTheIssuers(t *testing.T) {
	t.Parallel()
	ring := keyring()
	claims := said(nil)
	relabel := func(key imdstest.Pair, id string) string { key.ID = id; return sign(key, claims) }
	symmetric := func() string {
		der := ring["rsa"].Public()
		opts := (&jose.SignerOptions{}).WithHeader("kid", "rsa")
		text, _ := der.MarshalJSON()
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: text}, opts)
		if err != nil {
			t.Fatal(err)
		}
		signed, _ := signer.Sign([]byte("{}"))
		token, _ := signed.CompactSerialize()
		return token
	}
	embedded := func() string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: ring["next"].Private}, (&jose.SignerOptions{EmbedJWK: true}).WithHeader("kid", "es256"))
		if err != nil {
			t.Fatal(err)
		}
		signed, _ := signer.Sign([]byte("{}"))
		token, _ := signed.CompactSerialize()
		if head, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0]); err != nil || !strings.Contains(string(head), `"jwk":`) {
			t.Fatalf("the header is %s", head)
		}
		return token
	}
	used := func(change func(k *jose.JSONWebKey)) jose.JSONWebKeySet {
		s := published("es256")
		change(&s.Keys[0])
		return s
	}
	for name, c := range map[string]struct {
		token string
		keys  jose.JSONWebKeySet
		want  error
	}{
		"its own key":                      {relabel(ring["es256"], "es256"), published("rsa", "es256"), nil},
		"the second key of that id":        {relabel(ring["rsa"], "rsa"), published("stranger", "rsa"), nil},
		"another key of the issuer":        {relabel(ring["es256"], "rsa"), published("rsa", "es256"), eks.ErrUntrusted},
		"a stranger's key":                 {specimens()["T.stranger"], published("rsa"), eks.ErrUntrusted},
		"a short RSA key":                  {relabel(ring["short"], "short"), published("short"), eks.ErrUntrusted},
		"HMAC with the public key":         {symmetric(), published("rsa"), eks.ErrMalformed},
		"a key within the token":           {embedded(), published("es256"), eks.ErrUntrusted},
		"no keys":                          {relabel(ring["es256"], "es256"), jose.JSONWebKeySet{}, eks.ErrUntrusted},
		"a key for encryption":             {relabel(ring["es256"], "es256"), used(func(k *jose.JSONWebKey) { k.Use = "enc" }), eks.ErrUntrusted},
		"a key for another algorithm":      {relabel(ring["es256"], "es256"), used(func(k *jose.JSONWebKey) { k.Algorithm = "ES384" }), eks.ErrUntrusted},
		"a key that says nothing":          {relabel(ring["es256"], "es256"), used(func(k *jose.JSONWebKey) { k.Use, k.Algorithm = "", "" }), nil},
		"a secret where keys are":          {relabel(ring["es256"], "es256"), used(func(k *jose.JSONWebKey) { k.Key = []byte("secret") }), eks.ErrUntrusted},
		"a critical header of no standard": {forge(`{"alg":"ES256","kid":"es256","crit":["x"],"x":1}`, "{}", make([]byte, 64)), published("es256"), eks.ErrUntrusted},
	} {
		v := newVerifier(func(context.Context) (jose.JSONWebKeySet, error) { return c.keys, nil }, at(0))
		_, err := v.Verify(t.Context(), c.token)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A cluster is what keys are asked of. Time is the bubble's.
type cluster struct {
	asked atomic.Int32
	mu    sync.Mutex
	names []string // guarded by mu
	err   error    // guarded by mu
	hangs bool     // guarded by mu: answers when it is told to give up
}

func (c *cluster) set(err error, hangs bool, names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.hangs, c.names = err, hangs, names
}

func (c *cluster) keys(ctx context.Context) (jose.JSONWebKeySet, error) {
	c.asked.Add(1)
	c.mu.Lock()
	err, hangs, names := c.err, c.hangs, slices.Clone(c.names)
	c.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return jose.JSONWebKeySet{}, ctx.Err()
	}
	return published(names...), err
}

// verifier has the clock of the bubble, which starts before the tokens do.
func (c *cluster) verifier() *eks.Verifier {
	begin := time.Now()
	return newVerifier(c.keys, func() time.Time { return started.Add(time.Since(begin)) })
}

func (c *cluster) expect(t *testing.T, v *eks.Verifier, token string, want error, asked int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := v.Verify(ctx, specimens()[token]); !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Errorf("%s: %v, want %v", token, err, want)
	}
	if n := c.asked.Load(); n != asked {
		t.Errorf("%s: keys were asked for %d times, want %d", token, n, asked)
	}
}

func TestKeysAreKept(t *testing.T) {
	specimens()
	synctest.Test(t, func(t *testing.T) {
		var c cluster
		c.set(nil, false, "rsa")
		v := c.verifier()
		if c.asked.Load() != 0 {
			t.Error("keys were asked for before anybody needed them")
		}
		for range 10 {
			c.expect(t, v, "T", nil, 1)
		}
		time.Sleep(59 * time.Second)
		c.expect(t, v, "T", nil, 1)
		time.Sleep(time.Second)
		c.expect(t, v, "T", nil, 2)
		// What the issuer took back holds for a minute, and no longer.
		c.set(nil, false, "es256")
		time.Sleep(59 * time.Second)
		c.expect(t, v, "T", nil, 2)
		time.Sleep(time.Second)
		c.expect(t, v, "T", eks.ErrUntrusted, 3)
		c.expect(t, v, "T.es256", nil, 3)
	})
}

func TestUnknownKeyIsAskedForOnceMore(t *testing.T) {
	specimens()
	synctest.Test(t, func(t *testing.T) {
		var c cluster
		c.set(nil, false, "rsa")
		v := c.verifier()
		c.expect(t, v, "T", nil, 1)
		c.set(nil, false, "rsa", "next")
		time.Sleep(5 * time.Second)
		c.expect(t, v, "T.next", nil, 2)
		// A flood of unknown keys costs one question a second.
		for range 100 {
			c.expect(t, v, "T.es256", eks.ErrUntrusted, 2)
		}
		time.Sleep(time.Second)
		for range 100 {
			c.expect(t, v, "T.es256", eks.ErrUntrusted, 3)
		}
		// A wrong signature of a known key costs none.
		time.Sleep(5 * time.Second)
		c.expect(t, v, "T.stranger", eks.ErrUntrusted, 3)
	})
}

func TestKeysOfAnIssuerThatIsAway(t *testing.T) {
	specimens()
	synctest.Test(t, func(t *testing.T) {
		var c cluster
		c.set(errors.New("the file is not there"), false)
		v := c.verifier()
		c.expect(t, v, "T", eks.ErrKeys, 1)
		c.expect(t, v, "T", eks.ErrKeys, 1)
		time.Sleep(time.Second)
		c.set(nil, false, "rsa")
		c.expect(t, v, "T", nil, 2)
		// Once there were some, they hold on while it is away, and a token
		// with another key is not judged.
		c.set(errors.New("the file is not there"), false, "es256")
		time.Sleep(time.Hour)
		c.expect(t, v, "T", nil, 3)
		c.expect(t, v, "T", nil, 3)
		time.Sleep(time.Second)
		c.expect(t, v, "T.es256", eks.ErrKeys, 4)
		c.set(nil, false, "es256")
		time.Sleep(time.Second)
		c.expect(t, v, "T.es256", nil, 5)
		c.expect(t, v, "T", eks.ErrUntrusted, 5)
	})
}

// One question at a time, however many wait for its answer; none waits longer
// than it has.
func TestKeysOfAnIssuerThatHangs(t *testing.T) {
	specimens()
	synctest.Test(t, func(t *testing.T) {
		var c cluster
		c.set(nil, false, "rsa")
		v := c.verifier()
		c.expect(t, v, "T", nil, 1)
		c.set(nil, true)
		time.Sleep(time.Minute)
		begin := time.Now()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
				defer cancel()
				token, want := "T", error(nil)
				if i%2 == 1 {
					token, want = "T.es256", eks.ErrKeys
				}
				if _, err := v.Verify(ctx, specimens()[token]); !errors.Is(err, want) || (err == nil) != (want == nil) {
					t.Errorf("%s: %v, want %v", token, err, want)
				}
			})
		}
		all.Wait()
		if took, n := time.Since(begin), c.asked.Load(); took != 400*time.Millisecond || n != 2 {
			t.Errorf("20 requests took %v and %d questions, want 400ms and the one question", took, n-1)
		}
		c.set(nil, false, "rsa", "es256")
		time.Sleep(time.Second)
		c.expect(t, v, "T.es256", nil, 3)
	})
}

// A clock that was set back must not keep old keys for as long.
func TestClockSetBack(t *testing.T) {
	specimens()
	now := started
	var c cluster
	c.set(nil, false, "rsa")
	v := newVerifier(c.keys, func() time.Time { return now })
	now = started.Add(10 * time.Hour)
	c.expect(t, v, "T", nil, 1)
	now = started
	c.expect(t, v, "T", nil, 2)
	c.expect(t, v, "T", nil, 2)
}

// No error shows a token, or a part of one.
func TestErrorsHaveNothingOfTheToken(t *testing.T) {
	t.Parallel()
	for name, token := range specimens() {
		_, err := newVerifier(nil, at(0)).Verify(t.Context(), token)
		if err == nil {
			continue
		}
		for part := range strings.SplitSeq(token, ".") {
			if len(part) > 3 && strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error is %v", name, err)
			}
		}
	}
}
