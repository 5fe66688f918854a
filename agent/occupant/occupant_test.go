package occupant_test

import (
	"io/fs"
	"net/netip"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/agent/occupant"
)

func TestWhoKeepsFromAnAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		listens  string
		only6    bool
		want     string
		keepsOff bool
	}{
		{"the same address", "169.254.169.254", false, "169.254.169.254", true},
		{"another one", "127.0.0.1", false, "169.254.169.254", false},
		{"all addresses", "0.0.0.0", false, "169.254.169.254", true},
		{"all of both families", "::", false, "169.254.169.254", true},
		{"all of IPv6", "::", true, "169.254.169.254", false},
		{"all of IPv4, asked about IPv6", "0.0.0.0", false, "fd00:ec2::254", false},
		{"all of IPv6, asked about it", "::", true, "fd00:ec2::254", true},
	} {
		if got := occupant.KeepsFrom(c.listens, c.only6, netip.MustParseAddr(c.want)); got != c.keepsOff {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestProcessBehindASocket(t *testing.T) {
	t.Parallel()
	link := func(to string) *fstest.MapFile {
		return &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte(to)}
	}
	proc := fstest.MapFS{
		"uptime":     {Data: []byte("1")},
		"9/fd/3":     link("socket:[4711]"),
		"9/comm":     {Data: []byte("a worker\n")},
		"10/fd/0":    link("/dev/null"),
		"10/fd/5":    link("socket:[4711]"),
		"10/comm":    {Data: []byte("nginx\n")},
		"11/fd/7":    link("socket:[1]"),
		"11/comm":    {Data: []byte("\x1b[2Jevil \"name\"\n")},
		"12/fd/1":    link("socket:[47111]"),
		"12/comm":    {Data: []byte("other\n")},
		"self/fd/13": link("socket:[2]"),
	}
	for _, c := range []struct {
		name  string
		inode uint32
		want  string
	}{
		{"the lowest of those that share it", 4711, "a worker (pid 9, uid 33) on 0.0.0.0:80"},
		{"a name that would write on a terminal", 1, `\x1b[2Jevil \"name\" (pid 11, uid 33) on 0.0.0.0:80`},
		{"one that cannot be seen", 2, "a program of uid 33 that cannot be seen from here, on 0.0.0.0:80"},
	} {
		o := occupant.WithInode(occupant.Occupant{Addr: netip.MustParseAddrPort("0.0.0.0:80"), UID: 33}, c.inode)
		if diff := cmp.Diff(c.want, occupant.Find(proc, o).String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
