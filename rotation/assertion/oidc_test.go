package assertion_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

const (
	clientID     = "host:7 & co" // has to be escaped in a header
	clientSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY%+ "
)

func value(text string) func() (credential.Secret, error) {
	return func() (credential.Secret, error) { return credential.NewSecret(text), nil }
}

func now() time.Time { return time.Now().UTC() }

var later = time.Now().Add(time.Hour).Unix()

// liveToken makes the same token at each call.
func liveToken(sub string) string {
	return jwt(fmt.Sprintf(`{"iss":"https://issuer.example.com","sub":%q,"aud":"sts.amazonaws.com","exp":%d}`, sub, later))
}

// A tokenEndpoint takes what RFC 6749 has clients send, and hands the form to
// answer, which returns the document.
type tokenEndpoint struct {
	*httptest.Server
	answer func(r *http.Request, form url.Values) (status int, doc any)
	calls  atomic.Int64
	last   atomic.Pointer[url.Values]
}

func newTokenEndpoint(t *testing.T) *tokenEndpoint {
	e := &tokenEndpoint{}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.calls.Add(1)
		if r.Method != http.MethodPost || r.URL.Path != "/token" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("%s %s with a %s", r.Method, r.URL, r.Header.Get("Content-Type"))
		}
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		for k, v := range r.PostForm {
			if len(v) != 1 {
				t.Errorf("%s comes %d times", k, len(v))
			}
		}
		e.last.Store(&r.PostForm)
		status, doc := e.answer(r, r.PostForm)
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		w.Header().Set("Location", "/token") // for the redirect among the answers
		w.WriteHeader(status)
		if text, ok := doc.(string); ok {
			_, _ = w.Write([]byte(text))
			return
		}
		_ = json.NewEncoder(w).Encode(doc)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *tokenEndpoint) start() { e.StartTLS() }

// through makes a client whose time is too short for a second try.
func through(srv *httptest.Server) *upstream.Client {
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return upstream.New(upstream.Options{Roots: roots, Timeout: 2900 * time.Millisecond})
}

func (e *tokenEndpoint) client(auth assertion.ClientAuth) assertion.OIDC {
	return assertion.OIDC{TokenURL: e.URL + "/token", ClientID: clientID, Auth: auth, Audience: "sts.amazonaws.com", HTTP: through(e.Server), Now: now}
}

func bearer(token string) map[string]any {
	return map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600}
}

func refusal(code, description string) map[string]any {
	return map[string]any{"error": code, "error_description": description}
}

func pemKey(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// certify makes a certificate of key for a client.
func certify(t *testing.T, key crypto.Signer, name string) (der []byte) {
	t.Helper()
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return must(x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key))
}

func TestClientAuthentication(t *testing.T) {
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	p256 := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	certDER := certify(t, rsaKey, "host")
	certPath := filepath.Join(t.TempDir(), "client.pem")
	write(t, certPath, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER})))
	certSum := sha256.Sum256(certDER)
	ecDER := must(x509.MarshalECPrivateKey(p256))
	params := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8}})

	basic := func(r *http.Request, _ url.Values) bool {
		id, secret, ok := r.BasicAuth() // RFC 6749 2.3.1: both are form-encoded first
		return ok && id == url.QueryEscape(clientID) && secret == url.QueryEscape(clientSecret)
	}
	post := func(r *http.Request, f url.Values) bool {
		return r.Header.Get("Authorization") == "" && f.Get("client_id") == clientID && f.Get("client_secret") == clientSecret
	}
	public := func(r *http.Request, f url.Values) bool {
		return r.Header.Get("Authorization") == "" && f.Get("client_id") == clientID
	}
	seen := map[string]bool{}
	signed := func(e *tokenEndpoint, key crypto.PublicKey, alg, kid, thumb, audience string) func(*http.Request, url.Values) bool {
		return func(r *http.Request, f url.Values) bool {
			tok, err := josejwt.ParseSigned(f.Get("client_assertion"), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Error(err)
				return false
			}
			if audience == "" {
				audience = e.URL + "/token"
			}
			var c josejwt.Claims
			err = errors.Join(tok.Claims(key, &c), c.ValidateWithLeeway(josejwt.Expected{Issuer: clientID, Subject: clientID, AnyAudience: josejwt.Audience{audience}, Time: time.Now()}, 0))
			h := tok.Headers[0]
			got, _ := h.ExtraHeaders["x5t#S256"].(string)
			switch life := c.Expiry.Time().Sub(c.IssuedAt.Time()); {
			case err != nil || h.KeyID != kid || got != thumb || h.ExtraHeaders["typ"] != "JWT":
				t.Errorf("%v, header %+v", err, h)
			case len(c.ID) < 20 || seen[c.ID]:
				t.Errorf("jti %q was seen before, or can be guessed", c.ID)
			case life < time.Minute || life > 10*time.Minute || c.NotBefore == nil || len(c.Audience) != 1:
				t.Errorf("claims %+v", c)
			default:
				seen[c.ID] = true
				return r.Header.Get("Authorization") == "" && f.Get("client_id") == clientID && f.Get("client_secret") == "" &&
					f.Get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
			}
			return false
		}
	}
	statement := []string{"client_assertion", "client_assertion_type", "client_id"}
	key := func(k any) assertion.ClientAuth {
		return assertion.ClientAuth{Method: assertion.PrivateKeyJWT, Key: value(pemKey(t, k))}
	}
	with := func(a assertion.ClientAuth, change func(*assertion.ClientAuth)) assertion.ClientAuth {
		change(&a)
		return a
	}
	e := newTokenEndpoint(t)
	e.start()
	for name, c := range map[string]struct {
		auth  assertion.ClientAuth
		valid func(*http.Request, url.Values) bool
		form  []string
	}{
		"secret in the header":       {assertion.ClientAuth{Method: "client_secret_basic", Secret: value(clientSecret)}, basic, nil},
		"secret in the form":         {assertion.ClientAuth{Method: "client_secret_post", Secret: value(clientSecret)}, post, []string{"client_id", "client_secret"}},
		"no secret":                  {assertion.ClientAuth{Method: "none"}, public, []string{"client_id"}},
		"RSA":                        {with(key(rsaKey), func(a *assertion.ClientAuth) { a.KeyID = "k1" }), signed(e, rsaKey.Public(), "RS256", "k1", "", ""), statement},
		"RSA in the form of PKCS#1":  {assertion.ClientAuth{Method: "private_key_jwt", Key: value(string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})))}, signed(e, rsaKey.Public(), "RS256", "", "", ""), statement},
		"P-256":                      {key(p256), signed(e, p256.Public(), "ES256", "", "", ""), statement},
		"P-256 as openssl writes it": {assertion.ClientAuth{Method: "private_key_jwt", Key: value(string(params) + string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ecDER})))}, signed(e, p256.Public(), "ES256", "", "", ""), statement},
		"P-384":                      {key(p384), signed(e, p384.Public(), "ES384", "", "", ""), statement},
		"P-521":                      {key(p521), signed(e, p521.Public(), "ES512", "", "", ""), statement},
		"Ed25519":                    {key(ed), signed(e, ed.Public(), "EdDSA", "", "", ""), statement},
		"certificate, as Entra ID wants it": {with(key(rsaKey), func(a *assertion.ClientAuth) { a.Algorithm, a.Certificate = "PS256", certPath }),
			signed(e, rsaKey.Public(), "PS256", "", base64.RawURLEncoding.EncodeToString(certSum[:]), ""), statement},
		"audience of its own": {with(key(p256), func(a *assertion.ClientAuth) { a.Audience = "https://issuer.example.com" }),
			signed(e, p256.Public(), "ES256", "", "", "https://issuer.example.com"), statement},
	} {
		t.Run(name, func(t *testing.T) {
			e.answer = func(r *http.Request, f url.Values) (int, any) {
				fields := slices.Sorted(maps.Keys(f))
				want := slices.Sorted(slices.Values(append([]string{"audience", "grant_type", "resource", "scope"}, c.form...)))
				if !c.valid(r, f) || !slices.Equal(fields, want) {
					t.Errorf("header %v, form %v", r.Header, fields)
					return 401, refusal("invalid_client", "no")
				}
				if f.Get("grant_type") != "client_credentials" || f.Get("audience") != "sts.amazonaws.com" || f.Get("scope") != "a b" || f.Get("resource") != "urn:aws" {
					t.Errorf("form %v", f)
				}
				return 200, bearer(liveToken("host"))
			}
			o := e.client(c.auth)
			o.Scopes, o.Params = []string{"a", "b"}, map[string]string{"resource": "urn:aws", "audience": "mine", "grant_type": "password"}
			before := e.calls.Load()
			for range 2 {
				if got, err := o.Get(t.Context()); err != nil || !strings.HasPrefix(got.Describe(now()), `token of issuer "https://issuer.example.com"`) {
					t.Fatal(err)
				}
			}
			if n := e.calls.Load() - before; n != 2 {
				t.Errorf("%d calls for two tokens", n)
			}
		})
	}
}

func TestMutualTLS(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	cert := certify(t, key, "host-7")
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(cert)))
	e := newTokenEndpoint(t)
	e.answer = func(r *http.Request, f url.Values) (int, any) {
		if got := r.TLS.PeerCertificates[0].Subject.CommonName; got != "host-7" || f.Get("client_id") != clientID || f.Has("client_secret") || r.Header.Get("Authorization") != "" {
			t.Errorf("certificate %s, form %v", got, f)
		}
		return 200, bearer(liveToken("host"))
	}
	e.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	e.start()
	o := e.client(assertion.ClientAuth{Method: assertion.TLSClientAuth})
	if _, err := o.Get(t.Context()); err == nil || errors.Is(err, assertion.ErrRefused) {
		t.Errorf("without a certificate: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(e.Certificate())
	o.HTTP = upstream.New(upstream.Options{Timeout: 10 * time.Second, Roots: roots, Certificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}, nil
	}})
	if _, err := o.Get(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestExchange(t *testing.T) {
	subject := filepath.Join(t.TempDir(), "subject")
	write(t, subject, liveToken("subject"))
	e := newTokenEndpoint(t)
	e.start()
	e.answer = func(*http.Request, url.Values) (int, any) {
		doc := bearer(liveToken("host"))
		doc["issued_token_type"] = "urn:ietf:params:oauth:token-type:jwt"
		return 200, doc
	}
	o := e.client(assertion.ClientAuth{Method: assertion.NoClientAuth})
	o.ClientID, o.Subject = "", assertion.File{Path: subject}
	if _, err := o.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {liveToken("subject")},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"}, "audience": {"sts.amazonaws.com"}}
	if d := cmp.Diff(want, *e.last.Load()); d != "" {
		t.Error(d)
	}
	o.SubjectType, o.RequestedType = "urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:access_token"
	o.ClientID, o.Auth = clientID, assertion.ClientAuth{Method: assertion.ClientSecretPost, Secret: value(clientSecret)}
	if _, err := o.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	want["subject_token_type"], want["requested_token_type"] = []string{o.SubjectType}, []string{o.RequestedType}
	want["client_id"], want["client_secret"] = []string{clientID}, []string{clientSecret}
	if d := cmp.Diff(want, *e.last.Load()); d != "" {
		t.Error(d)
	}
	calls := e.calls.Load()
	o.Subject = assertion.File{Path: subject + ".gone"}
	if _, err := o.Get(t.Context()); err == nil || e.calls.Load() != calls {
		t.Errorf("without a subject: %v", err)
	}
}

func TestIDToken(t *testing.T) {
	e := newTokenEndpoint(t)
	e.start()
	doc := bearer("opaque")
	e.answer = func(*http.Request, url.Values) (int, any) { return 200, doc }
	o := e.client(assertion.ClientAuth{Method: assertion.ClientSecretBasic, Secret: value(clientSecret)})
	o.IDToken = true
	if _, err := o.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "openid") {
		t.Errorf("without an id token: %v", err)
	}
	doc["id_token"] = liveToken("host")
	if got, err := o.Get(t.Context()); err != nil || got.Text.Reveal() != doc["id_token"] {
		t.Error(err)
	}
}

func TestAnswersThatAreNoToken(t *testing.T) {
	e := newTokenEndpoint(t)
	e.start()
	subject := filepath.Join(t.TempDir(), "subject")
	write(t, subject, liveToken("SUBJECT"))
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	header := func(head string) map[string]any {
		b := base64.RawURLEncoding.EncodeToString
		return bearer(b([]byte(head)) + strings.TrimPrefix(liveToken("SECRET"), b([]byte(`{"alg":"RS256"}`))))
	}
	for name, c := range map[string]struct {
		status  int
		doc     any
		refused bool
		says    string
	}{
		"wrong secret":              {401, refusal("invalid_client", "Invalid client credentials"), true, "invalid_client: Invalid client credentials; check client_id"},
		"refusal with a 200":        {200, refusal("invalid_scope", ""), true, "invalid_scope; check scope"},
		"code without a hint":       {400, refusal("consent_required", "x\x1b[1m\ny"), true, "consent_required: x [1m y"},
		"try later":                 {400, refusal("temporarily_unavailable", "later"), false, "temporarily_unavailable: later"},
		"code of a broken endpoint": {503, refusal("server_error", "oops"), false, "server_error: oops"},
		"refusal while throttling":  {429, refusal("invalid_client", ""), false, "invalid_client"},
		"a proxy's page":            {403, "<html>SECRET</html>", false, "HTTP status 403"},
		"error that is an object":   {400, `{"error":{"code":400,"message":"SECRET"}}`, false, "HTTP status 400"},
		"redirect":                  {307, "", false, "HTTP status 307"},
		"page with a 200":           {200, "<html>SECRET</html>", false, "is it a token endpoint?"},
		"empty":                     {200, "{}", false, "missing access_token"},
		"opaque token":              {200, bearer("SECRET"), false, "holds no JSON web token"},
		"five parts":                {200, bearer("SECRET.SECRET.SECRET.SECRET.SECRET"), false, "holds no JSON web token"},
		"no claims":                 {200, bearer(jwt(`"SECRET"`)), false, "cannot be read"},
		"header that is no JSON":    {200, header("SECRET"), false, "cannot be read"},
		"expired":                   {200, bearer(jwt(fmt.Sprintf(`{"iss":"https://i","exp":%d}`, time.Now().Add(-5*time.Second).Unix()))), false, `token of issuer "https://i"`},
		"expiry before all time":    {200, bearer(jwt(`{"iss":"https://i","exp":-1e300}`)), false, "check this host's clock"},
		"no expiry":                 {200, bearer(jwt(`{"iss":"https://i"}`)), false, "without expiry: STS takes none"},
		"no issuer":                 {200, bearer(jwt(fmt.Sprintf(`{"exp":%d}`, later))), false, "STS takes none"},
		"unsigned":                  {200, header(`{"alg":"none"}`), false, `"none"`},
		"signed with a shared key":  {200, header(`{"alg":"HS256"}`), false, `"HS256"`},
		"larger than any token":     {200, bearer(jwt(`{"a":"` + strings.Repeat("SECRET", 4000) + `"}`)), false, "the most that STS takes"},
		"larger than any answer":    {200, strings.Repeat("SECRET", 20_000), false, "larger than"},
		"a broken number":           {200, `{"access_token":"SECRET","expires_in":{}}`, false, "is it a token endpoint?"},
	} {
		t.Run(name, func(t *testing.T) {
			e.answer = func(*http.Request, url.Values) (int, any) { return c.status, c.doc }
			o := e.client(assertion.ClientAuth{Method: assertion.ClientSecretBasic, Secret: value("CLIENT-SECRET")})
			got, err := o.Get(t.Context())
			if err == nil {
				t.Fatalf("accepted: %s", got.Describe(now()))
			}
			if errors.Is(err, assertion.ErrRefused) != c.refused || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), e.Listener.Addr().String()) {
				t.Errorf("refused should be %v, and it should say %q: %v", c.refused, c.says, err)
			}
			if n := e.calls.Swap(0); c.status == 307 && n != 1 {
				t.Errorf("the secret was sent %d times", n)
			}
			if strings.ContainsAny(err.Error(), "\n\x1b") || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error shows what it must not: %v", err)
			}
		})
	}
	// An endpoint that repeats all it was told.
	e.answer = func(r *http.Request, f url.Values) (int, any) {
		return 400, refusal("invalid_request", f.Get("client_assertion")+" "+f.Get("subject_token")+" "+f.Get("client_secret"))
	}
	for _, auth := range []assertion.ClientAuth{
		{Method: assertion.ClientSecretPost, Secret: value("CLIENT-SECRET")},
		{Method: assertion.PrivateKeyJWT, Key: value(pemKey(t, key))},
	} {
		o := e.client(auth)
		o.Subject = assertion.File{Path: subject}
		_, err := o.Get(t.Context())
		if !errors.Is(err, assertion.ErrRefused) || strings.Contains(err.Error(), "CLIENT-SECRET") || strings.Contains(err.Error(), "eyJ") {
			t.Errorf("%s: %v", auth.Method, err)
		}
	}
}

func TestKeysThatCannotSign(t *testing.T) {
	e := newTokenEndpoint(t)
	e.start()
	e.answer = func(*http.Request, url.Values) (int, any) { t.Error("asked"); return 500, "" }
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	block := func(kind, body string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(body)}))
	}
	gone := func() (credential.Secret, error) { return credential.Secret{}, errors.New("open key: no such file") }
	good := value(pemKey(t, rsaKey))
	for name, a := range map[string]assertion.ClientAuth{
		"no file":              {Method: "private_key_jwt", Key: gone},
		"no secret file":       {Method: "client_secret_post", Secret: gone},
		"no PEM":               {Method: "private_key_jwt", Key: value("SECRET")},
		"a broken key":         {Method: "private_key_jwt", Key: value(block("PRIVATE KEY", "SECRET"))},
		"a passphrase":         {Method: "private_key_jwt", Key: value(block("ENCRYPTED PRIVATE KEY", "SECRET"))},
		"a certificate":        {Method: "private_key_jwt", Key: value(block("CERTIFICATE", "SECRET"))},
		"a curve without name": {Method: "private_key_jwt", Key: value(pemKey(t, p224))},
		"the wrong algorithm":  {Method: "private_key_jwt", Key: good, Algorithm: "ES256"},
		"no such algorithm":    {Method: "private_key_jwt", Key: good, Algorithm: "none"},
		"no certificate":       {Method: "private_key_jwt", Key: good, Certificate: filepath.Join(t.TempDir(), "gone.pem")},
		"no such method":       {Method: "kerberos"},
	} {
		_, err := e.client(a).Get(t.Context())
		if err == nil || errors.Is(err, assertion.ErrRefused) || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), e.URL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A statement from a host whose clock is wrong is valid at the endpoint once
// that has answered for the first time.
func TestStatementsFollowTheEndpointsClock(t *testing.T) {
	e := newTokenEndpoint(t)
	e.start()
	there := func() time.Time { return time.Now().Add(3 * time.Hour) }
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	e.answer = func(_ *http.Request, f url.Values) (int, any) {
		var c josejwt.Claims
		if err := must(josejwt.ParseSigned(f.Get("client_assertion"), []jose.SignatureAlgorithm{jose.ES256})).Claims(key.Public(), &c); err != nil {
			t.Error(err)
		}
		if c.ValidateWithLeeway(josejwt.Expected{Time: there()}, 0) != nil {
			return 401, refusal("invalid_client", "expired")
		}
		return 200, bearer(jwt(fmt.Sprintf(`{"iss":"https://i","exp":%d}`, there().Add(time.Minute).Unix())))
	}
	inner := e.Config.Handler
	e.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", there().UTC().Format(http.TimeFormat))
		inner.ServeHTTP(w, r)
	})
	o := e.client(assertion.ClientAuth{Method: assertion.PrivateKeyJWT, Key: value(pemKey(t, key))})
	if _, err := o.Get(t.Context()); !errors.Is(err, assertion.ErrRefused) {
		t.Errorf("the first time: %v", err)
	}
	if _, err := o.Get(t.Context()); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func TestCancelledCalls(t *testing.T) {
	e := newTokenEndpoint(t)
	e.start()
	ctx, cancel := context.WithCancel(t.Context())
	e.answer = func(r *http.Request, _ url.Values) (int, any) {
		cancel()
		<-r.Context().Done()
		return 500, ""
	}
	o := e.client(assertion.ClientAuth{Method: assertion.ClientSecretPost, Secret: value(clientSecret)})
	if _, err := o.Get(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	e.Close()
	_, err := o.Get(t.Context())
	if err == nil || strings.Contains(err.Error(), "/token\":") || !strings.Contains(err.Error(), "refused") || errors.Is(err, assertion.ErrRefused) {
		t.Errorf("an endpoint that is down: %v", err)
	}
}
