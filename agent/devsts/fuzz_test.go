package devsts_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/devsts"
)

// FuzzServeHTTP sends any form with any headers, as it is and signed: no
// panic, always well-formed XML with a request id, and never credentials
// unless the request was signed or carries a token.
func FuzzServeHTTP(f *testing.F) {
	r := newRig(f)
	const scope = "AWS4-HMAC-SHA256 Credential=" + keyID + "/20261123/" + region + "/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature="
	f.Add("POST", "/", with(), scope+strings.Repeat("0", 64), "20261123T120000Z", "", "Accept", false)
	f.Add("POST", "/", with(manyTags(3, 2)...), "AWS4-HMAC-SHA256 ,,,", "", "dG9rZW4=", "User-Agent", true)
	f.Add("POST", "/x?y;z", with("Policy", "{", "TransitiveTagKeys.member.1", "k1"), scope, "2026", "x", "Content-Length", true)
	f.Add("GET", "*", form("Action", "AssumeRoleWithWebIdentity", "Version", "2011-06-15", "RoleArn", hub, "RoleSessionName", "one", "WebIdentityToken", "eyJhbGciOiJSUzI1NiJ9.e30.AA"), "", "", "", "", false)
	f.Add("POST", "/", form("Action", "AssumeRole", "Tags.member.99999999999999999999.Key", "a", "Tags.member.-1.Key", "b", "Tags.member.1.", "c", "PolicyArns.member.", "d"), "", "", "", "Host", true)
	f.Fuzz(func(t *testing.T, method, target, body, authorization, date, token, header string, sign bool) {
		req := httptest.NewRequest("POST", "/", strings.NewReader(body))
		req.Method = method
		req.URL.Path, req.URL.RawQuery, _ = strings.Cut(target, "?")
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for k, v := range map[string]string{"Authorization": authorization, "X-Amz-Date": date, "X-Amz-Security-Token": token, header: target} {
			if k != "" && v != "" {
				req.Header[http.CanonicalHeaderKey(k)] = []string{v}
			}
		}
		if sign {
			delete(req.Header, "Authorization")
			signer{token: token}.sign(req)
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		got := w.Body.Bytes()
		if !bytes.Contains(got, []byte("</RequestId>")) {
			t.Fatalf("no request id in %s", got)
		}
		for d := xml.NewDecoder(bytes.NewReader(got)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in %s", err, got)
			}
		}
		if !sign && w.Code == http.StatusOK {
			t.Fatalf("a request without a signature got %s", got)
		}
	})
}

// FuzzToken offers any text as a web identity token and as a session token.
func FuzzToken(f *testing.F) {
	r := newRig(f)
	good := r.issuer.Mint(good(nil))
	signed := good[:strings.LastIndexByte(good, '.')+1] // base64 spells one signature in several ways
	f.Add(good)
	f.Add(good[:len(good)-2])
	f.Add("e30.e30.e30")
	f.Fuzz(func(t *testing.T, token string) {
		body := form("Action", "AssumeRoleWithWebIdentity", "Version", "2011-06-15", "RoleArn", hub, "RoleSessionName", "one", "WebIdentityToken", token)
		if resp := raw(r.Server, "POST", "/", body, nil); resp.StatusCode == http.StatusOK && !strings.HasPrefix(token, signed) {
			t.Errorf("%q was believed", token)
		}
		if _, err := r.Verify("ASIAIOSFODNN7EXAMPLE", "", token); err == nil {
			t.Errorf("%q was believed", token)
		}
	})
}

// FuzzLike holds the matcher to what it must not lose: a pattern without
// wildcards is equality, and a star at the end adds any text.
func FuzzLike(f *testing.F) {
	f.Add("a*b?c", "axbyc")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		got := devsts.Like(pattern, s)
		if !strings.ContainsAny(pattern, "*?") && got != (pattern == s) {
			t.Errorf("%q, %q: %v", pattern, s, got)
		}
		if got && !devsts.Like(pattern+"*", s+"x") {
			t.Errorf("%q matches %q, but not with more on both", pattern, s)
		}
	})
}
