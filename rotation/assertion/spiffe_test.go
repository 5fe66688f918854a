package assertion_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/assertion"
)

// A workloadAPI answers on a socket with a token, or with a status.
func workloadAPI(t *testing.T, token, status, message string) assertion.SPIFFE {
	t.Helper()
	dir, err := os.MkdirTemp("", "spiffe") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := assertion.SPIFFE{Socket: filepath.Join(dir, "api.sock"), Audience: "sts.amazonaws.com", Timeout: 5 * time.Second, Now: now}
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	field := func(n byte, text string) string {
		return string(binary.AppendUvarint([]byte{n<<3 | 2}, uint64(len(text)))) + text
	}
	body := field(1, field(1, "spiffe://example.org/host")+field(2, token))
	body = "\x00" + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if status == "" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		_, _ = w.Write([]byte(body))
		w.Header().Set("Grpc-Status", status)
		w.Header().Set("Grpc-Message", message)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return s
}

func TestSPIFFE(t *testing.T) {
	token := liveToken("spiffe://example.org/host")
	if got, err := workloadAPI(t, token, "0", "").Get(t.Context()); err != nil || got.Text.Reveal() != token {
		t.Error(err)
	}
	expired := jwt(`{"iss":"https://i","sub":"SECRET","exp":1}`)
	for name, c := range map[string]struct {
		token, status, message string
		refused                bool
		says                   string
	}{
		"not registered":  {"", "7", "no identity%0Aissued", true, "PermissionDenied: no identity issued; register this process"},
		"bad identity":    {"", "3", "", true, "InvalidArgument; check audience"},
		"starting":        {"", "14", "starting", false, "Unavailable: starting"},
		"another service": {"", "12", "unknown service", true, "Unimplemented"},
		"opaque":          {"TOKEN", "0", "", false, "holds no JSON web token"},
		"expired":         {expired, "0", "", false, "expired"},
		"no token":        {"", "0", "", false, "the answer has no token"},
	} {
		s := workloadAPI(t, c.token, c.status, c.message)
		_, err := s.Get(t.Context())
		if err == nil || errors.Is(err, assertion.ErrRefused) != c.refused || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), s.Socket) || strings.Contains(err.Error(), "TOKEN") {
			t.Errorf("%s: %v", name, err)
		}
	}
	silent := workloadAPI(t, "", "", "")
	silent.Timeout = 50 * time.Millisecond
	if _, err := silent.Get(t.Context()); err == nil || !strings.Contains(err.Error(), silent.Socket) {
		t.Errorf("a silent API: %v", err)
	}
}
