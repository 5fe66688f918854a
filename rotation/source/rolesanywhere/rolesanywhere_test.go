package rolesanywhere_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hostrole/hostrole/rotation/command"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/rolesanywhere"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
	"github.com/hostrole/hostrole/rotation/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func now() time.Time { return time.Now().Round(0).UTC() }

// An authority is a root, an intermediate below it, and a counter of serial
// numbers, which are longer than 64 bits, as real ones are.
type authority struct {
	root, between       *x509.Certificate
	rootKey, betweenKey crypto.Signer
	serial              *big.Int
}

func newAuthority(t *testing.T) *authority {
	a := &authority{rootKey: newEC(t, elliptic.P256()), betweenKey: newEC(t, elliptic.P256()), serial: new(big.Int).Lsh(big.NewInt(0x7b), 120)}
	a.root = a.issue(t, "root", a.rootKey.Public(), now().Add(time.Hour))
	a.between = a.issue(t, "intermediate", a.betweenKey.Public(), now().Add(time.Hour))
	return a
}

// issue makes a certificate: the root's and the intermediate's by the root,
// any other by the intermediate.
func (a *authority) issue(t *testing.T, name string, key crypto.PublicKey, end time.Time) *x509.Certificate {
	t.Helper()
	a.serial = new(big.Int).Add(a.serial, big.NewInt(1))
	c := &x509.Certificate{
		SerialNumber: a.serial, Subject: pkix.Name{CommonName: name}, NotBefore: now().Add(-2 * time.Hour), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	parent, signer := a.between, a.betweenKey
	if name == "root" || name == "intermediate" {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
		if parent, signer = a.root, a.rootKey; name == "root" {
			parent = c
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key, signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func newEC(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs8(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return encode("PRIVATE KEY", der)
}

func sec1(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return encode("EC PRIVATE KEY", der)
}

func value(text string) func() (credential.Secret, error) {
	return func() (credential.Secret, error) { return credential.NewSecret(text), nil }
}

func write(t *testing.T, path string, texts ...string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(texts, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A world is the service, its authority, and a host with a certificate.
type world struct {
	*service
	ca     *authority
	key    *ecdsa.PrivateKey
	path   string // of the certificate
	source rolesanywhere.Source
}

func newWorld(t *testing.T) *world {
	w := &world{ca: newAuthority(t), key: newEC(t, elliptic.P256()), path: filepath.Join(t.TempDir(), "host.pem")}
	w.service = &service{anchors: x509.NewCertPool()}
	w.anchors.AddCert(w.ca.root)
	leaf := w.ca.issue(t, "host-7", w.key.Public(), now().Add(time.Hour))
	write(t, w.path, encode("CERTIFICATE", leaf.Raw), encode("CERTIFICATE", w.ca.between.Raw))
	w.source = rolesanywhere.Source{
		Identity: rolesanywhere.Identity{Certificate: w.path, Key: value(pkcs8(t, w.key))},
		Endpoint: w.start(t), TrustAnchorARN: trustAnchor, ProfileARN: profile, RoleARN: role, Duration: time.Hour,
		HTTP: upstream.New(upstream.Options{Timeout: 5 * time.Second}), Now: now, Boot: func() time.Duration { return time.Hour },
	}
	return w
}

func TestContract(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject{New: func(t *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		w := newWorld(t)
		w.behaviour = b
		return w.source, []string{canary, pkcs8(t, w.key), strings.Split(pkcs8(t, w.key), "\n")[1]}
	}})
}

func TestEveryFormOfKey(t *testing.T) {
	r, p256, p384 := newRSA(t), newEC(t, elliptic.P256()), newEC(t, elliptic.P384())
	parameters := encode("EC PARAMETERS", []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})
	for name, c := range map[string]struct {
		public crypto.PublicKey
		text   string
	}{
		"RSA in PKCS#1":                 {r.Public(), encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r))},
		"RSA in PKCS#8":                 {r.Public(), pkcs8(t, r)},
		"P-256 in PKCS#8":               {p256.Public(), pkcs8(t, p256)},
		"P-256 in SEC 1":                {p256.Public(), sec1(t, p256)},
		"P-256 after its parameters":    {p256.Public(), parameters + sec1(t, p256)},
		"P-384 in SEC 1":                {p384.Public(), sec1(t, p384)},
		"without a newline at the end":  {p384.Public(), strings.TrimSpace(pkcs8(t, p384))},
		"with carriage returns":         {p256.Public(), strings.ReplaceAll(pkcs8(t, p256), "\n", "\r\n")},
		"after words that are not PEM":  {p256.Public(), "Key of host-7\n" + pkcs8(t, p256)},
		"in one file with certificates": {p256.Public(), encode("CERTIFICATE", newAuthority(t).root.Raw) + pkcs8(t, p256)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			leaf := w.ca.issue(t, "host-7", c.public, now().Add(time.Hour))
			write(t, w.path, encode("CERTIFICATE", leaf.Raw), encode("CERTIFICATE", w.ca.between.Raw))
			w.source.Identity.Key = value(c.text)
			got, err := w.source.Fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.RoleARN != role || got.AccountID != "111122223333" || got.RequestID != "request-1" || got.Received != time.Hour {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// What the operator set is what is asked for, and nothing else.
func TestParameters(t *testing.T) {
	w := newWorld(t)
	w.names = true
	for _, c := range []struct {
		name     string
		duration time.Duration
	}{{"", 0}, {"host-7", 12 * time.Hour}} {
		w.source.SessionName, w.source.Duration = c.name, c.duration
		if _, err := w.source.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.durations) != 1 || w.durations[0] != 43200 || w.sessionNames[0] != "" || w.sessionNames[1] != "host-7" {
		t.Errorf("got %v and %q", w.durations, w.sessionNames)
	}
}

func TestTheChainMayHaveAFileOfItsOwn(t *testing.T) {
	w := newWorld(t)
	leaf := w.ca.issue(t, "host-7", w.key.Public(), now().Add(time.Hour))
	write(t, w.path, encode("CERTIFICATE", leaf.Raw))
	if _, err := w.source.Fetch(t.Context()); !errors.Is(err, source.ErrAccessDenied) {
		t.Errorf("without the intermediate: %v", err)
	}
	w.source.Identity.Chain = write(t, filepath.Join(t.TempDir(), "chain.pem"), encode("CERTIFICATE", w.ca.between.Raw), encode("CERTIFICATE", w.ca.root.Raw))
	if _, err := w.source.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	w.anchors = x509.NewCertPool()
	w.anchors.AddCert(w.ca.between)
	w.source.Identity.Chain = ""
	if _, err := w.source.Fetch(t.Context()); err != nil {
		t.Errorf("with the intermediate as the trust anchor: %v", err)
	}
}

// Each use shows what is in the files by then.
func TestARenewedCertificateIsShown(t *testing.T) {
	w := newWorld(t)
	old := w.ca.issue(t, "host-7", w.key.Public(), now().Add(-10*time.Minute))
	write(t, w.path, encode("CERTIFICATE", old.Raw), encode("CERTIFICATE", w.ca.between.Raw))
	_, err := w.source.Fetch(t.Context())
	for _, want := range []string{"AccessDeniedException", "Untrusted certificate", `"CN=host-7"`, `"CN=intermediate"`, old.SerialNumber.String(), "expired 10m", "(request request-1)"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal does not tell %q: %v", want, err)
		}
	}
	if end, err := w.source.Identity.NotAfter(); err != nil || !end.Equal(old.NotAfter) {
		t.Errorf("NotAfter: %v %v", end, err)
	}

	key := newRSA(t)
	renewed := w.ca.issue(t, "host-7", key.Public(), now().Add(time.Hour))
	write(t, w.path, encode("CERTIFICATE", renewed.Raw), encode("CERTIFICATE", w.ca.between.Raw))
	if _, err := w.source.Fetch(t.Context()); err == nil || errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "only one of the two renewed") {
		t.Errorf("between the two files of a renewal: %v", err)
	}
	w.source.Identity.Key = value(pkcs8(t, key))
	if _, err := w.source.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	if end, err := w.source.Identity.NotAfter(); err != nil || !end.Equal(renewed.NotAfter) || end.Location() != time.UTC {
		t.Errorf("NotAfter: %v %v", end, err)
	}
}

func TestAWrongClockIsCorrected(t *testing.T) {
	w := newWorld(t)
	w.skew = 20 * time.Minute
	c, err := w.source.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if w.calls != 2 || w.dates[0].Sub(now()) < 19*time.Minute {
		t.Errorf("%d calls, dates %v", w.calls, w.dates)
	}
	if d := c.Expires.Sub(c.Issued); (d - time.Hour).Abs() > 5*time.Second {
		t.Errorf("lives %v by the service's clock", d)
	}
	if _, err := w.source.Fetch(t.Context()); err != nil || w.calls != 3 {
		t.Errorf("%v; a known skew was not used from the start: %d calls", err, w.calls)
	}
	w.source.RoleARN = "arn:aws:iam::111122223333:role/other"
	if _, err := w.source.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "clock is off by -") || w.calls != 4 {
		t.Errorf("%v after %d calls", err, w.calls)
	}
}

func TestRefusals(t *testing.T) {
	answer := func(status int, code, message string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, code, message) }
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		kind   error
		want   string
		calls  int
	}{
		"a denial":                  {answer(403, "AccessDeniedException", "Access denied"), source.ErrAccessDenied, "AccessDeniedException: Access denied", 1},
		"an unknown profile":        {answer(404, "ResourceNotFoundException", "Profile not found"), source.ErrRefused, "check trust_anchor_arn and profile_arn", 1},
		"a parameter":               {answer(400, "ValidationException", "durationSeconds"), source.ErrRefused, "15m to 12h", 1},
		"throttling":                {answer(429, "ThrottlingException", "Rate exceeded"), nil, "ThrottlingException", 3},
		"throttling as a 400":       {answer(400, "ThrottlingException", "Rate exceeded"), nil, "ThrottlingException", 1},
		"an internal error":         {answer(500, "InternalServerException", ""), nil, "InternalServerException", 3},
		"a code in the body alone":  {body(400, `{"__type":"com.amazonaws#ValidationException","message":"m"}`), source.ErrRefused, "ValidationException: m", 1},
		"a page of a guest network": {body(403, "<html>"+canary), nil, "HTTP status 403, and not in the form of Roles Anywhere", 1},
		"a redirect":                {body(302, ""), nil, "HTTP status 302", 1},
		"another role":              {body(201, `{"credentialSet":[{"roleArn":"arn:aws:iam::111122223333:role/x","credentials":{"sessionToken":"t","expiration":"2030-01-01T00:00:00Z"}}]}`), nil, "another role, arn:aws:iam::111122223333:role/x", 1},
		"no credentials":            {body(201, `{"credentialSet":[]}`), nil, "no credentials", 1},
		"null":                      {body(201, `null`), nil, "no credentials", 1},
		"no token":                  {body(201, `{"credentialSet":[{"credentials":{"accessKeyId":"ASIA","secretAccessKey":"`+canary+`","expiration":"2030-01-01T00:00:00Z"}}]}`), nil, "no session token", 1},
		"an expiration in words":    {body(201, `{"credentialSet":[{"credentials":{"sessionToken":"`+canary+`","expiration":"tomorrow"}}]}`), nil, "no expiration", 1},
		"a number for a key":        {body(201, `{"credentialSet":[{"credentials":{"secretAccessKey":12345678}}]}`), nil, "not the JSON", 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.source.HTTP = upstream.New(upstream.Options{Timeout: 20 * time.Second})
			w.instead = c.answer
			got, err := w.source.Fetch(t.Context())
			if err == nil || got.Complete() || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), canary) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if errors.Is(err, source.ErrRefused) != (c.kind != nil) || c.kind != nil && !errors.Is(err, c.kind) || errors.Is(err, source.ErrAccessDenied) != (c.kind == source.ErrAccessDenied) { //nolint:errorlint // the row's own value
				t.Errorf("the kind of %v is wrong", err)
			}
			if w.calls != c.calls {
				t.Errorf("%d calls, want %d", w.calls, c.calls)
			}
		})
	}
}

func body(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

// Nothing is sent when the host's own files are wrong, and what is wrong is
// said without a word of a key.
func TestWhatIsWrongHere(t *testing.T) {
	key := newEC(t, elliptic.P256())
	good := strings.Split(pkcs8(t, key), "\n")[1]
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	legacy := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")}))
	for name, c := range map[string]struct {
		change func(t *testing.T, w *world)
		want   string
	}{
		"no certificate":       {func(_ *testing.T, w *world) { w.source.Identity.Certificate += ".gone" }, "certificate: open"},
		"a folder":             {func(t *testing.T, w *world) { w.source.Identity.Certificate = t.TempDir() }, "no regular file"},
		"an empty file":        {func(t *testing.T, w *world) { write(t, w.path) }, "holds no certificate in PEM"},
		"a broken certificate": {func(t *testing.T, w *world) { write(t, w.path, encode("CERTIFICATE", []byte("nonsense"))) }, "certificate 1 in it"},
		"a huge file":          {func(t *testing.T, w *world) { write(t, w.path, strings.Repeat("x", 70<<10)) }, "larger than 65536 bytes"},
		"no chain":             {func(_ *testing.T, w *world) { w.source.Identity.Chain = w.path + ".gone" }, "chain: open"},
		"a key that is missing": {func(_ *testing.T, w *world) {
			w.source.Identity.Key = func() (credential.Secret, error) { return credential.Secret{}, errors.New("gone") }
		}, "key: gone"},
		"a key that is no PEM":  {func(_ *testing.T, w *world) { w.source.Identity.Key = value(good) }, "holds no private key"},
		"a key cut short":       {func(_ *testing.T, w *world) { w.source.Identity.Key = value(encode("PRIVATE KEY", []byte(good))) }, "cut short"},
		"a key with a password": {func(_ *testing.T, w *world) { w.source.Identity.Key = value(legacy) }, "has a password"},
		"the same in PKCS#8": {func(_ *testing.T, w *world) {
			w.source.Identity.Key = value(encode("ENCRYPTED PRIVATE KEY", []byte(good)))
		}, "has a password"},
		"a key of another kind": {func(t *testing.T, w *world) { w.source.Identity.Key = value(pkcs8(t, ed)) }, "neither an RSA nor an ECDSA key"},
		"somebody else's key":   {func(t *testing.T, w *world) { w.source.Identity.Key = value(pkcs8(t, key)) }, "not the key of the certificate"},
		"an anchor without ARN": {func(_ *testing.T, w *world) { w.source.TrustAnchorARN = "anchor" }, "has no region"},
		"a profile elsewhere":   {func(_ *testing.T, w *world) { w.source.ProfileARN = strings.Replace(profile, region, "eu-west-1", 1) }, "not in eu-central-1"},
		"an unknown partition": {func(_ *testing.T, w *world) {
			w.source.Endpoint = ""
			w.source.TrustAnchorARN = strings.Replace(trustAnchor, ":aws:", ":mars:", 1)
		}, "set endpoint"},
		"an endpoint of no form": {func(_ *testing.T, w *world) { w.source.Endpoint = "http://%zz" }, "endpoint: "},
		"a certificate of a kind that nobody takes": {func(t *testing.T, w *world) {
			leaf := w.ca.issue(t, "host-7", ed.Public(), now().Add(time.Hour))
			write(t, w.path, encode("CERTIFICATE", leaf.Raw))
			w.source.Identity.Signer = &command.Command{Argv: []string{"/bin/true"}, Timeout: time.Second}
		}, "neither RSA nor ECDSA"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.change(t, w)
			_, err := w.source.Fetch(t.Context())
			if err == nil || errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), good) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if w.calls != 0 {
				t.Error("something was sent")
			}
		})
	}
}

// The endpoint follows the trust anchor's partition and region; nothing is
// sent there.
func TestEndpoints(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:rolesanywhere:eu-central-1:111122223333:trust-anchor/x":        "rolesanywhere.eu-central-1.amazonaws.com",
		"arn:aws-cn:rolesanywhere:cn-north-1:111122223333:trust-anchor/x":       "rolesanywhere.cn-north-1.amazonaws.com.cn",
		"arn:aws-eusc:rolesanywhere:eusc-de-east-1:111122223333:trust-anchor/x": "rolesanywhere.eusc-de-east-1.amazonaws.eu",
	} {
		w := newWorld(t)
		var host atomic.Pointer[string]
		w.source.HTTP = upstream.New(upstream.Options{Timeout: time.Second, Proxy: proxyTo(&host)})
		w.source.Endpoint, w.source.TrustAnchorARN, w.source.ProfileARN = "", arn, strings.Replace(arn, "trust-anchor", "profile", 1)
		if _, err := w.source.Fetch(t.Context()); err == nil {
			t.Error("no error")
		}
		if got := host.Load(); got == nil || *got != want {
			t.Errorf("%s: got %v, want %s", arn, got, want)
		}
	}
}

// proxyTo is a proxy on a port where nobody listens, and tells for whom it was
// asked.
func proxyTo(host *atomic.Pointer[string]) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		host.Store(&r.URL.Host)
		return url.Parse("http://127.0.0.1:1")
	}
}

// The program signs what it is given on its command line; that one here has a
// key of its own.
func TestSigner(t *testing.T) {
	openssl := "/usr/bin/openssl"
	if _, err := os.Stat(openssl); err != nil {
		t.Skip("no openssl here to sign with")
	}
	r := newRSA(t)
	for name, c := range map[string]struct {
		key    crypto.Signer
		encode string
	}{
		"ECDSA in base64":     {newEC(t, elliptic.P256()), "base64"},
		"RSA in hexadecimal":  {r, "od -An -v -tx1"},
		"RSA in base64 lines": {r, "base64 -w 64"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			leaf := w.ca.issue(t, "host-7", c.key.Public(), now().Add(time.Hour))
			write(t, w.path, encode("CERTIFICATE", leaf.Raw), encode("CERTIFICATE", w.ca.between.Raw))
			file := write(t, filepath.Join(t.TempDir(), "key.pem"), pkcs8(t, c.key))
			script := `printf "$(printf %s "$1" | sed 's/../\\x&/g')" | ` + openssl + ` pkeyutl -sign -inkey ` + file + ` -pkeyopt digest:sha256 | ` + c.encode
			w.source.Identity.Key = nil
			argv := append(make([]string, 0, 8), "/bin/bash", "-c", script, "sign") // with room behind it
			w.source.Identity.Signer = &command.Command{Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}, Timeout: 10 * time.Second}
			for range 2 {
				if _, err := w.source.Fetch(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := argv[:5][4]; got != "" {
				t.Errorf("attempts at the same time would share the word %q", got)
			}
		})
	}
}

func TestASignerThatIsOfNoUse(t *testing.T) {
	for script, want := range map[string]string{
		"exit 3":                   "signing: /bin/sh: exit status 3",
		"echo no token >&2; false": "no token",
		"true":                     "it is empty",
		"echo hello!":              "neither hexadecimal nor base64",
		"echo 3045":                "does not belong to the certificate",
	} {
		w := newWorld(t)
		w.source.Identity.Key = nil
		w.source.Identity.Signer = &command.Command{Argv: []string{"/bin/sh", "-c", script, "sign"}, Timeout: 10 * time.Second}
		if _, err := w.source.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), want) || w.calls != 0 {
			t.Errorf("%s: %v, %d calls", script, err, w.calls)
		}
	}
	w := newWorld(t)
	w.source.Identity.Signer = &command.Command{Argv: []string{"/bin/sh", "-c", "sleep 60", "sign"}, Timeout: time.Minute}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := w.source.Fetch(ctx); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}
