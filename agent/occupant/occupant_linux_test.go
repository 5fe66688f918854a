package occupant_test

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/occupant"
)

func TestOwnSocketIsFound(t *testing.T) {
	for _, c := range []struct{ network, listen, want string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"tcp", ":0", "127.0.0.1"},
		{"tcp6", "[::1]:0", "::1"},
	} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), c.network, c.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		at := netip.AddrPortFrom(netip.MustParseAddr(c.want), l.Addr().(*net.TCPAddr).AddrPort().Port())
		got, err := occupant.Of(at)
		if err != nil {
			t.Fatal(err)
		}
		program, _ := os.ReadFile("/proc/self/comm")
		if len(got) != 1 || got[0].PID != os.Getpid() || int(got[0].UID) != os.Geteuid() || got[0].Program != strings.TrimSpace(string(program)) {
			t.Errorf("%s: %+v", c.listen, got)
		}
	}
}

func TestFreePortHasNobody(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := occupant.Of(at); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 72))
	f.Add(append([]byte{2}, make([]byte, 71)...))
	f.Add(append(append([]byte{10}, make([]byte, 71)...), 12, 0, 21, 0, 1, 2, 3, 4, 5, 6, 7, 8))
	f.Add(append(append([]byte{10}, make([]byte, 71)...), 255, 255, 21, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := occupant.Decode(b); err == nil && len(b) < 72 {
			t.Errorf("%d bytes are no answer", len(b))
		}
	})
}
