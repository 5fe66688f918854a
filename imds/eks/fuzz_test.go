package eks_test

import (
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/eks"
)

// FuzzVerify shows any token at all. Only what the issuer signed holds, and
// the seeds have all that it did.
func FuzzVerify(f *testing.F) {
	signed := map[string]eks.Pod{} // by all but the signature
	v := newVerifier(nil, at(0))
	for _, token := range specimens() {
		f.Add(token)
		if pod, err := v.Verify(f.Context(), token); err == nil {
			signed[token[:strings.LastIndexByte(token, '.')]] = pod
		}
	}
	f.Add(forge(`{"alg":"ES256","kid":"es256","b64":false,"crit":["b64"]}`, "{}", make([]byte, 64)))
	f.Add(forge(`{"alg":"RS256","kid":"rsa","jwk":{"kty":"oct","k":"eA"}}`, "{}", []byte("x")))
	f.Fuzz(func(t *testing.T, token string) {
		pod, err := v.Verify(t.Context(), token)
		if err == nil {
			// Base64 has more than one spelling of some texts, but a signature
			// is over the one that was signed.
			want, known := signed[token[:strings.LastIndexByte(token, '.')]]
			if !known || pod != want {
				t.Errorf("%q holds, for %+v", token, pod)
			}
			return
		}
		if pod != (eks.Pod{}) {
			t.Errorf("%q: %v, and a pod all the same: %+v", token, err, pod)
		}
		if text := err.Error(); strings.ContainsAny(text, "\r\n") || len(token) > 40 && strings.Contains(text, token[:40]) {
			t.Errorf("%q: the error is %q", token, text)
		}
	})
}

// FuzzPath asks for any path at all, without a token.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/v1/credentials", "/v1/credentials/", "//v1/credentials", "/v1/credentials%00", "/"} {
		f.Add(path)
	}
	h := states()["app"].handler()
	f.Fuzz(func(t *testing.T, path string) {
		a := h.Serve(t.Context(), &imds.Request{Method: "GET", Path: path})
		want := 404
		if path == "/v1/credentials" {
			want = 400
		}
		if a.Status != want {
			t.Errorf("%q gets %d, want %d", path, a.Status, want)
		}
	})
}
