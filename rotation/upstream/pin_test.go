package upstream_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/upstream"
)

func TestPins(t *testing.T) {
	var reached atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	sum := sha256.Sum256(srv.Certificate().RawSubjectPublicKeyInfo)
	own, err := upstream.ParsePin("sha256/" + base64.StdEncoding.EncodeToString(sum[:]))
	if err != nil || own != upstream.Pin(sum) {
		t.Fatal(err)
	}
	other := upstream.Pin{1}
	for name, c := range map[string]struct {
		roots *x509.CertPool
		pins  []upstream.Pin
		want  error // nil: it is reached
	}{
		"its own key":                   {roots, []upstream.Pin{own}, nil},
		"its own among others":          {roots, []upstream.Pin{other, own}, nil},
		"another key":                   {roots, []upstream.Pin{other}, upstream.ErrPinned},
		"its own, of an unknown issuer": {x509.NewCertPool(), []upstream.Pin{own}, x509.UnknownAuthorityError{}},
	} {
		before, began := reached.Load(), time.Now()
		_, err := do(t, upstream.New(upstream.Options{Timeout: 20 * time.Second, Roots: c.roots, Pins: c.pins}), srv.URL)
		var unknown x509.UnknownAuthorityError
		if ok := errors.Is(err, c.want) || errors.As(c.want, &unknown) && errors.As(err, &unknown); !ok {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if got := reached.Load() - before; (got == 1) != (c.want == nil) {
			t.Errorf("%s: %d requests were sent", name, got)
		}
		if d := time.Since(began); c.want != nil && d > 2*time.Second {
			t.Errorf("%s: it was tried again, for %v", name, d)
		}
	}
}

func TestParsePin(t *testing.T) {
	const good = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	if _, err := upstream.ParsePin("sha256//" + good[7:]); err != nil {
		t.Errorf("the form of curl: %v", err)
	}
	for _, text := range []string{"", "sha256/", good[7:], "sha1/" + good[7:], good[:len(good)-2], good + "AAAA", "sha256/!" + good[8:]} {
		if _, err := upstream.ParsePin(text); err == nil {
			t.Errorf("%q is a pin", text)
		}
	}
}

func FuzzParsePin(f *testing.F) {
	f.Add("sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Add("sha256//")
	f.Add("sha256/AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := upstream.ParsePin(text)
		if err != nil {
			return
		}
		if again, err := upstream.ParsePin("sha256/" + base64.StdEncoding.EncodeToString(p[:])); err != nil || again != p {
			t.Errorf("%q does not come back: %v", text, err)
		}
	})
}
