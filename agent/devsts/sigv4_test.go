package devsts_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/hostrole/hostrole/agent/devsts"
)

// form is a body; pairs keep their order, and may repeat a name.
func form(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(pairs[i]) + "=" + url.QueryEscape(pairs[i+1]))
	}
	return b.String()
}

func whoami() string { return form("Action", "GetCallerIdentity", "Version", "2011-06-15") }

// raw is what curl would send.
func raw(h http.Handler, method, target, body string, change func(*http.Request)) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "sts.example.com"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// signer signs a raw request, by default as alice, now, and for here.
type signer struct {
	id, secret, token, service, region string
	at                                 time.Time
	body                               string // signed in place of the real one, if set
}

func (s signer) sign(r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(b))
	if s.body != "" {
		b = []byte(s.body)
	}
	sum := sha256.Sum256(b)
	or := func(v, d string) string {
		if v == "" {
			return d
		}
		return v
	}
	if s.at.IsZero() {
		s.at = time.Now()
	}
	_ = v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{AccessKeyID: or(s.id, keyID), SecretAccessKey: or(s.secret, secret), SessionToken: s.token},
		r, hex.EncodeToString(sum[:]), or(s.service, "sts"), or(s.region, region), s.at)
}

func wantAnswer(t *testing.T, resp *http.Response, status int, code, message string) {
	t.Helper()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != status || code != "" && !bytes.Contains(b, []byte("<Code>"+code+"</Code>")) || !bytes.Contains(b, []byte(message)) {
		t.Errorf("got %d %s\nwant %d %s with %q", resp.StatusCode, b, status, code, message)
	}
}

func authorization(old, replacement string) func(*http.Request) {
	return func(r *http.Request) {
		h := r.Header.Get("Authorization")
		if !strings.Contains(h, old) {
			panic("nothing to replace in " + h)
		}
		r.Header.Set("Authorization", strings.Replace(h, old, replacement, 1))
	}
}

// TestEachPartOfASignatureCounts signs a good request and spoils one part.
func TestEachPartOfASignatureCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	day := time.Now().UTC().Format("20060102")
	const notMatching, noMatch = "The request signature we calculated does not match", "SignatureDoesNotMatch"
	for name, c := range map[string]struct {
		spoil         func(*http.Request)
		status        int
		code, message string
	}{
		"nothing":            {func(*http.Request) {}, 200, "", userARN},
		"an unsigned header": {func(r *http.Request) { r.Header.Set("User-Agent", "other") }, 200, "", userARN},
		"method":             {func(r *http.Request) { r.Method = "PUT" }, 403, noMatch, notMatching},
		"path":               {func(r *http.Request) { r.URL.Path = "/x" }, 403, noMatch, notMatching},
		"query":              {func(r *http.Request) { r.URL.RawQuery = "a=b" }, 403, noMatch, notMatching},
		"a malformed query":  {func(r *http.Request) { r.URL.RawQuery = "a;b" }, 404, "MalformedQueryString", ""},
		"a signed header":    {func(r *http.Request) { r.Header.Set("X-Amz-Meta", "b") }, 403, noMatch, notMatching},
		"a header twice":     {func(r *http.Request) { r.Header.Add("X-Amz-Meta", "a") }, 403, noMatch, notMatching},
		"a header less":      {func(r *http.Request) { r.Header.Del("X-Amz-Meta") }, 403, noMatch, notMatching},
		"content type":       {func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 403, noMatch, notMatching},
		"host":               {func(r *http.Request) { r.Host = "sts.example.org" }, 403, noMatch, notMatching},
		"body":               {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(whoami() + "&Z=1")) }, 403, noMatch, notMatching},
		"payload hash":       {func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", strings.Repeat("0", 64)) }, 403, noMatch, notMatching},
		"unsigned payload":   {func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, 403, noMatch, notMatching},
		"time": {func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().Add(-2*time.Minute).UTC().Format("20060102T150405Z"))
		}, 403, noMatch, ""},
		"no time":             {func(r *http.Request) { r.Header.Del("X-Amz-Date") }, 400, "IncompleteSignature", "X-Amz-Date"},
		"time with fractions": {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20261123T120000.5Z") }, 400, "IncompleteSignature", "ISO-8601"},
		"time of HTTP":        {func(r *http.Request) { r.Header.Set("X-Amz-Date", time.Now().UTC().Format(http.TimeFormat)) }, 400, "IncompleteSignature", "ISO-8601"},
		"day of scope":        {authorization("/"+day+"/", "/20150101/"), 403, noMatch, "Date in Credential scope does not match"},
		"region of scope":     {authorization("/"+region+"/", "/us-east-1/"), 403, noMatch, "Credential should be scoped to a valid region"},
		"service of scope":    {authorization("/sts/", "/iam/"), 403, noMatch, "Credential should be scoped to correct service: &#39;sts&#39;"},
		"end of scope":        {authorization("/aws4_request", "/aws5_request"), 403, noMatch, "valid terminator"},
		"scope of four":       {authorization("/sts/", "/"), 400, "IncompleteSignature", "exactly 5 slash-delimited"},
		"key":                 {authorization(keyID, "AKIAI44QH8DHBEXAMPLE"), 403, noMatch, ""},
		"unknown key":         {authorization(keyID, "AKIAXXXXXXXXXXXXXXXX"), 403, "InvalidClientTokenId", "The security token included in the request is invalid"},
		"signature":           {func(r *http.Request) { flipLast(r, "Authorization") }, 403, noMatch, notMatching},
		"short signature":     {authorization("Signature=", "Signature=00&"), 400, "IncompleteSignature", "64"},
		"no signature":        {authorization(", Signature=", ", Sig="), 400, "IncompleteSignature", "requires &#39;Signature&#39;"},
		"signature twice":     {authorization(", Signature=", ", Signature=0, Signature="), 400, "IncompleteSignature", "twice"},
		"another part":        {authorization(", Signature=", ", X=0, Signature="), 400, "IncompleteSignature", "besides"},
		"algorithm":           {authorization("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), 400, "IncompleteSignature", "AWS4-HMAC-SHA256"},
		"bearer":              {func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 400, "IncompleteSignature", ""},
		"two headers":         {func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, 400, "IncompleteSignature", "more than one"},
		"none":                {func(r *http.Request) { r.Header.Del("Authorization") }, 403, "MissingAuthenticationToken", "Request is missing Authentication Token"},
		"host not signed":     {authorization("host;", ""), 403, noMatch, "&#39;host&#39; must be a &#39;SignedHeader&#39;"},
		"date not signed":     {authorization(";x-amz-date", ""), 403, noMatch, "&#39;x-amz-date&#39; must be"},
		"a header not listed": {authorization(";x-amz-meta", ""), 403, noMatch, notMatching},
		"unsorted":            {authorization("host;x-amz-date", "x-amz-date;host"), 403, noMatch, "sorted"},
		"listed, not there":   {authorization(";x-amz-meta", ";x-amz-meta;x-other"), 403, noMatch, notMatching},
		"listed twice":        {authorization(";x-amz-meta", ";x-amz-meta;x-amz-meta"), 403, noMatch, "unique"},
		"a token out of air":  {func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, 403, noMatch, "x-amz-security-token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantAnswer(t, raw(r.Server, "POST", "/", whoami(), func(req *http.Request) {
				req.Header.Set("X-Amz-Meta", "a")
				signer{}.sign(req)
				c.spoil(req)
			}), c.status, c.code, c.message)
		})
	}
}

func flipLast(r *http.Request, header string) {
	h := []byte(r.Header.Get(header))
	last := &h[len(h)-1]
	if *last == '0' {
		*last = '1'
	} else {
		*last = '0'
	}
	r.Header.Set(header, string(h))
}

// TestTamperingBehindTheSDK changes what the SDK signed on its way out.
func TestTamperingBehindTheSDK(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, tamper := range map[string]func(*http.Request){
		"method":  func(req *http.Request) { req.Method = "PUT" },
		"path":    func(req *http.Request) { req.URL.Path = "/other" },
		"header":  func(req *http.Request) { req.Header.Set("Amz-Sdk-Request", "attempt=9; max=9") },
		"region":  authorization("/"+region+"/", "/us-west-2/"),
		"service": authorization("/sts/", "/s3/"),
		"date": func(req *http.Request) {
			req.Header.Set("X-Amz-Date", time.Now().Add(-time.Minute).UTC().Format("20060102T150405Z"))
		},
		"body": func(req *http.Request) {
			b, _ := io.ReadAll(req.Body)
			b = bytes.Replace(b, []byte("one"), []byte("two"), 1)
			req.Body = io.NopCloser(bytes.NewReader(b))
		},
	} {
		_, err := r.client(t, keyID, secret, "", tamper).AssumeRole(t.Context(), assume(hub, "one"))
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, 403, "SignatureDoesNotMatch", "") })
	}
	_, err := r.client(t, keyID, secret+"x", "", nil).AssumeRole(t.Context(), assume(hub, "one"))
	wantRefusal(t, err, 403, "SignatureDoesNotMatch", "does not match the signature you provided")
	_, err = r.client(t, "AKIAXXXXXXXXXXXXXXXX", secret, "", nil).AssumeRole(t.Context(), assume(hub, "one"))
	wantRefusal(t, err, 403, "InvalidClientTokenId", "")
}

func TestSignedWrongFromTheStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, c := range map[string]struct {
		s             signer
		method, path  string
		status        int
		code, message string
	}{
		"another region":    {signer{region: "us-east-1"}, "POST", "/", 403, "SignatureDoesNotMatch", "valid region"},
		"another service":   {signer{service: "iam"}, "POST", "/", 403, "SignatureDoesNotMatch", "correct service"},
		"another body":      {signer{body: "x"}, "POST", "/", 403, "SignatureDoesNotMatch", "does not match"},
		"another path":      {signer{}, "POST", "/x", 404, "UnknownOperationException", ""},
		"query":             {signer{}, "POST", "/?a=b", 404, "MalformedQueryString", ""},
		"another method":    {signer{}, "PUT", "/", 405, "MethodNotAllowed", ""},
		"16 minutes ago":    {signer{at: time.Now().Add(-16 * time.Minute)}, "POST", "/", 403, "SignatureDoesNotMatch", "Signature expired: "},
		"in 16 minutes":     {signer{at: time.Now().Add(16 * time.Minute)}, "POST", "/", 403, "SignatureDoesNotMatch", "Signature not yet current: "},
		"14 minutes ago":    {signer{at: time.Now().Add(-14 * time.Minute)}, "POST", "/", 200, "", userARN},
		"in 14 minutes":     {signer{at: time.Now().Add(14 * time.Minute)}, "POST", "/", 200, "", userARN},
		"token with user's": {signer{token: "dG9rZW4="}, "POST", "/", 403, "InvalidClientTokenId", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantAnswer(t, raw(r.Server, c.method, c.path, whoami(), c.s.sign), c.status, c.code, c.message)
		})
	}
}

// TestIgnoredHeadersCountWhenSigned: the SDK's signer passes over User-Agent,
// other clients do not.
func TestIgnoredHeadersCountWhenSigned(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sign := func(req *http.Request) {
		req.Header = http.Header{"user-agent": {"curl"}, "Content-Type": req.Header["Content-Type"]} // lower case passes the signer's list
		signer{}.sign(req)
		req.Header["User-Agent"] = req.Header["user-agent"]
		delete(req.Header, "user-agent")
	}
	wantAnswer(t, raw(r.Server, "POST", "/", whoami(), sign), 200, "", userARN)
	wantAnswer(t, raw(r.Server, "POST", "/", whoami(), func(req *http.Request) {
		sign(req)
		req.Header.Set("User-Agent", "wget")
	}), 403, "SignatureDoesNotMatch", "")
}

func TestSessionKeysNeedTheirToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, err := r.alice(t).AssumeRole(t.Context(), assume(hub, "one"))
	must(t, one, err)
	two, err := r.alice(t).AssumeRole(t.Context(), assume(hub, "two"))
	must(t, two, err)
	a, b := one.Credentials, two.Credentials
	ask := func(id, secret, token string) error {
		_, err := r.client(t, id, secret, token, nil).GetCallerIdentity(t.Context(), nil)
		return err
	}
	if err := ask(*a.AccessKeyId, *a.SecretAccessKey, *a.SessionToken); err != nil {
		t.Fatal(err)
	}
	const invalid = "The security token included in the request is invalid"
	wantRefusal(t, ask(*a.AccessKeyId, *a.SecretAccessKey, ""), 403, "InvalidClientTokenId", invalid)
	wantRefusal(t, ask(*a.AccessKeyId, *a.SecretAccessKey, *b.SessionToken), 403, "InvalidClientTokenId", invalid)
	wantRefusal(t, ask(*a.AccessKeyId, *a.SecretAccessKey, *a.SessionToken+"AAAA"), 403, "InvalidClientTokenId", invalid)
	wantRefusal(t, ask(*a.AccessKeyId, *b.SecretAccessKey, *a.SessionToken), 403, "SignatureDoesNotMatch", "")
	wantRefusal(t, ask(keyID, secret, *a.SessionToken), 403, "InvalidClientTokenId", invalid)
	wantAnswer(t, raw(r.Server, "POST", "/", whoami(), func(req *http.Request) {
		signer{id: *a.AccessKeyId, secret: *a.SecretAccessKey}.sign(req)
		req.Header.Set("X-Amz-Security-Token", *a.SessionToken) // not signed
	}), 403, "SignatureDoesNotMatch", "x-amz-security-token")

	r.shift.Store(int64(10 * time.Minute)) // within the skew
	if err := ask(*a.AccessKeyId, *a.SecretAccessKey, *a.SessionToken); err != nil {
		t.Fatal(err)
	}
	short := newRig(t, func(o *devsts.Options) { o.MinSession = time.Second })
	out, err := short.alice(t).AssumeRole(t.Context(), assume(hub, "one", func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(60) }))
	must(t, out, err)
	short.shift.Store(int64(time.Minute))
	_, err = short.as(t, out.Credentials).GetCallerIdentity(t.Context(), nil)
	wantRefusal(t, err, 403, "ExpiredToken", "The security token included in the request is expired")
}

// TestSDKHealsItsClock: the Date header of the refusal is what the SDK
// corrects itself by.
func TestSDKHealsItsClock(t *testing.T) {
	t.Parallel()
	for name, shift := range map[string]time.Duration{"Signature expired": 20 * time.Minute, "Signature not yet current": -20 * time.Minute} {
		r := newRig(t)
		r.shift.Store(int64(shift))
		c := r.alice(t)
		_, err := c.GetCallerIdentity(t.Context(), nil)
		wantRefusal(t, err, 403, "SignatureDoesNotMatch", name)
		if _, err := c.GetCallerIdentity(t.Context(), nil); err != nil {
			t.Errorf("%s: the second call: %v", name, err)
		}
	}
}
