package svid_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hostrole/hostrole/rotation/assertion/svid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	audience = "sts.amazonaws.com"
	host     = "spiffe://example.org/host"
)

// serve answers the Workload API's calls on a socket.
func serve(t *testing.T, answer http.HandlerFunc, watch ...func(net.Conn, http.ConnState)) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "svid") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "api.sock")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &protocols, Handler: answer, ReadHeaderTimeout: 10 * time.Second}
	if len(watch) > 0 {
		srv.ConnState = watch[0]
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return socket
}

// field makes a field that has a length: text, or a message of fields.
func field(n byte, parts ...string) string {
	text := strings.Join(parts, "")
	return string(binary.AppendUvarint([]byte{n<<3 | 2}, uint64(len(text)))) + text
}

func identity(id, token string) string {
	return field(1, field(1, id), field(2, token), field(3, "hint"))
}

func framed(message string) string {
	return "\x00" + string(binary.BigEndian.AppendUint32(nil, uint32(len(message)))) + message
}

// answer ends a call as gRPC does.
func answer(body, status, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc+proto")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		_, _ = io.WriteString(w, body)
		w.Header().Set("Grpc-Status", status)
		w.Header().Set("Grpc-Message", message)
	}
}

func TestTheCall(t *testing.T) {
	var want string
	socket := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != want {
			t.Errorf("%q, %v; want %q", body, err, want)
		}
		if r.Proto != "HTTP/2.0" || r.Method != http.MethodPost || r.URL.Path != "/SpiffeWorkloadAPI/FetchJWTSVID" ||
			r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" || r.Header.Get("Workload.spiffe.io") != "true" {
			t.Errorf("%s %s %s %v", r.Proto, r.Method, r.URL, r.Header)
		}
		answer(framed(identity("spiffe://example.org/default", "first")+identity(host, "second")), "0", "")(w, r)
	})
	want = "\x00\x00\x00\x00\x13\x0a\x11sts.amazonaws.com"
	if got, err := svid.Fetch(t.Context(), socket, audience, ""); err != nil || got != "first" {
		t.Errorf("%q, %v", got, err)
	}
	want = "\x00\x00\x00\x00\x2e\x0a\x11sts.amazonaws.com\x12\x19" + host
	if got, err := svid.Fetch(t.Context(), socket, audience, host); err != nil || got != "second" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestStatus(t *testing.T) {
	trailersOnly := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "7")
		w.Header().Set("Grpc-Message", "no identity issued")
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"in the trailer":        {answer("", "14", "starting: 100%25 %zz"), "Unavailable: starting: 100%25 %zz"},
		"with escapes":          {answer("", "3", "a%0Ab 100%25"), "InvalidArgument: a\nb 100%"},
		"in the header":         {trailersOnly, "PermissionDenied: no identity issued"},
		"after a message":       {answer(framed(identity(host, "SECRET")), "16", ""), "Unauthenticated: "},
		"a code of the future":  {answer("", "17", "x"), "status 17: x"},
		"a code of the distant": {answer("", "65535", "x"), "status 65535: x"},
	} {
		_, err := svid.Fetch(t.Context(), serve(t, c.answer), audience, "")
		var s *svid.Status
		if !errors.As(err, &s) || s.Error() != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBrokenAnswers(t *testing.T) {
	good := framed(identity(host, "SECRET"))
	page := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>SECRET</html>") }
	missing := func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
	endless := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		for range 1000 {
			if _, err := io.WriteString(w, strings.Repeat("SECRET", 1000)); err != nil {
				return
			}
		}
	}
	reset := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = io.WriteString(w, good)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"a page":                {page, "is it the Workload API's socket?"},
		"not found":             {missing, "HTTP status 404"},
		"no end":                {endless, "larger than"},
		"cut off":               {reset, "reading the answer"},
		"no status":             {answer(good, "", ""), "without a status"},
		"a status in words":     {answer(good, "SECRET", ""), "without a status"},
		"a status below zero":   {answer(good, "-1", ""), "without a status"},
		"no message":            {answer("", "0", ""), "no message"},
		"an empty message":      {answer(framed(""), "0", ""), "no token"},
		"half a frame":          {answer(good[:3], "0", ""), "no message"},
		"half a message":        {answer(good[:len(good)-1], "0", ""), "not one message"},
		"two messages":          {answer(good+good, "0", ""), "not one message"},
		"compressed":            {answer("\x01"+good[1:], "0", ""), "compressed"},
		"no protocol buffer":    {answer(framed("SECRET"), "0", ""), "no protocol buffer"},
		"identity without text": {answer(framed(field(1, field(1, host))), "0", ""), "no token"},
	} {
		got, err := svid.Fetch(t.Context(), serve(t, c.answer), audience, "")
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := svid.Fetch(t.Context(), serve(t, answer(good, "0", "")), audience, "spiffe://example.org/other"); err == nil || !strings.Contains(err.Error(), "none of its 1 identities") {
		t.Errorf("another identity: %v", err)
	}
}

func TestPick(t *testing.T) {
	twice := identity(host, "first") + identity(host, "second")
	for name, c := range map[string]struct{ message, id, want string }{
		"the first of one identity":   {twice, host, "first"},
		"the first is the default":    {twice, "", "first"},
		"the default has no token":    {identity("spiffe://example.org/default", "") + identity(host, "token"), "", ""},
		"fields of the future":        {"\x7a\x01x\x78\x96\x01\x79\x01\x02\x03\x04\x05\x06\x07\x08\x7d\x01\x02\x03\x04" + twice, "", "first"},
		"no value":                    {twice + "\x08", "", ""},
		"a value that does not end":   {twice + "\x08\xff", "", ""},
		"a value over 64 bits":        {twice + "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "", ""},
		"no length":                   {twice + "\x0a", "", ""},
		"a length beyond the end":     {twice + "\x0a\x02a", "", ""},
		"a length beyond all":         {twice + "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "", ""},
		"field 0":                     {twice + "\x02\x00", "", ""},
		"a group":                     {twice + "\x0b\x0c", "", ""},
		"half a number":               {twice + "\x0d\x01\x02", "", ""},
		"identity that is cut short":  {field(1, field(1, host), "\x12\x05tok"), "", ""},
		"no identity of many is that": {twice, "spiffe://example.org", ""},
	} {
		got, err := svid.Pick([]byte(c.message), c.id)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestNoConnectionStays(t *testing.T) {
	closed := make(chan struct{})
	socket := serve(t, answer(framed(identity(host, "token")), "0", ""), func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(closed)
		}
	})
	if _, err := svid.Fetch(t.Context(), socket, audience, ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("the connection is still there")
	}
}

func TestNobodyAnswers(t *testing.T) {
	if _, err := svid.Fetch(t.Context(), filepath.Join(t.TempDir(), "s"), audience, ""); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("no socket: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	socket := serve(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	if _, err := svid.Fetch(ctx, socket, audience, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("a silent socket: %v", err)
	}
}

func FuzzSVID(f *testing.F) {
	f.Add([]byte(identity(host, "token")), "")
	f.Add([]byte(identity("spiffe://example.org/other", "other")+identity(host, "token")), host)
	f.Add([]byte("\x08\x96\x01\x11\x01\x02\x03\x04\x05\x06\x07\x08\x1d\x01\x02\x03\x04"+identity(host, "token")), host)
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "")
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), "")
	f.Add([]byte("\x0b\x0c"), "")
	f.Fuzz(func(t *testing.T, message []byte, want string) {
		token, err := svid.Pick(message, want)
		if (err == nil) != (token != "") {
			t.Fatalf("%q, %v", token, err)
		}
		if err == nil && !strings.Contains(string(message), token) {
			t.Fatalf("%q is not in the message", token)
		}
		// What is unknown, and what comes after, changes nothing.
		more := "\x7a\x01x" + string(message) + identity("spiffe://example.org/last", "")
		if again, _ := svid.Pick([]byte(more), want); err == nil && again != token {
			t.Fatalf("%q, and %q with more fields", token, again)
		}
	})
}
