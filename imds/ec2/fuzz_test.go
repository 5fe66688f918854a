package ec2_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/imdstest"
)

// FuzzNormalize asks for any path at all, without a token, of a handler that
// gives all of version 1 but roles.
func FuzzNormalize(f *testing.F) {
	for _, path := range []string{"/", "/latest", "//latest//meta-data/ramdisk-id/", idPath, appPath, "/1.0/meta-data/%69am/info", "/latest/meta-data/..", "/latest/meta-data/%2e",
		"/latest/meta-data/instance-id%00", "/latest/meta-data/%252e", "/latest/meta-data%2finstance-id", "/%", "/latest/meta-data/tags/instance/a%2Bb%3Dc%2Cd%40e"} {
		f.Add(path)
	}
	open := states()["opt"].handler()
	half := states()["creds"].handler()
	f.Fuzz(func(t *testing.T, path string) {
		path = "/" + path // as the server has it, always
		r := &imds.Request{Method: "GET", Path: path, Caller: caller.Caller{UID: caller.NewID(1000)}}
		a := open.Serve(t.Context(), r)
		switch {
		case a.Status != 200 && a.Status != 404 && a.Status != 405:
			t.Errorf("%q gets %d", path, a.Status)
		case a.Status == 200 && plainPath(path) == "":
			t.Errorf("%q is answered", path)
		case a.Status == 200:
			// The same answer as the plain spelling of the path.
			b := open.Serve(t.Context(), &imds.Request{Method: "GET", Path: plainPath(path), Caller: r.Caller})
			if string(b.Body) != string(a.Body) {
				t.Errorf("%q and %q have different answers", path, plainPath(path))
			}
		}
		// However iam/ is spelt, it needs a token where it must.
		if a := half.Serve(t.Context(), r); a.Status == 200 && strings.Contains(string(a.Body), "AccessKeyId") {
			t.Errorf("%q has credentials without a token", path)
		}
	})
}

// plainPath is written another way than normalize: the segments that are not
// empty, decoded once. It is "" for what must not be answered.
func plainPath(target string) string {
	segs := slices.DeleteFunc(strings.Split(target, "/"), func(s string) bool { return s == "" })
	for i, s := range segs {
		d, err := url.PathUnescape(s)
		if err != nil || d == "." || d == ".." || strings.Contains(d, "/") || strings.IndexFunc(d, func(r rune) bool { return r < 0x20 || r == 0x7f }) >= 0 {
			return ""
		}
		segs[i] = url.PathEscape(d)
	}
	return "/" + strings.Join(segs, "/")
}

// FuzzServe sends any bytes at all over a connection to the whole server. The
// client has no more to say, so that nothing is waited for.
func FuzzServe(f *testing.F) {
	for _, name := range []string{"testdata/8.1-token.http", "testdata/8.2-session.http", "testdata/8.3-tree.http", "testdata/8.4-credentials.http"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var raw strings.Builder
		for line := range strings.Lines(string(text)) {
			if sent, ok := strings.CutPrefix(line, ">"); ok && !strings.HasPrefix(sent, ">") {
				raw.WriteString(strings.TrimSpace(sent) + "\r\n")
			} else if raw.Len() > 0 {
				f.Add([]byte(raw.String()))
				raw.Reset()
			}
		}
	}
	l := imdstest.NewListener(address)
	s := states()["creds"]
	var panics []any
	var mu sync.Mutex
	s.observe = func(e imds.Exchange) {
		mu.Lock()
		defer mu.Unlock()
		if e.Panic != nil {
			panics = append(panics, e.Panic)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = s.server().Serve(ctx, l) })
	f.Cleanup(func() { cancel(); done.Wait() })
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 32<<10 {
			return // beyond what the server lingers for, TCP may reset
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := l.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(raw)
		_ = conn.CloseWrite()
		a, err := imdstest.Exchange(ctx, conn, "")
		if errors.Is(err, imdstest.ErrNoAnswer) {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if err := a.Check(strings.HasPrefix(string(raw), "HEAD ")); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
		if a.Status >= 500 && a.Status != 505 {
			t.Errorf("%q gets %d", raw, a.Status)
		}
		if strings.Contains(string(a.Body), "AccessKeyId") {
			t.Errorf("%q has credentials without a token", raw)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(panics) > 0 {
			t.Errorf("%q: panic: %v", raw, panics)
		}
	})
}
