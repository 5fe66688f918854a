package host_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/caller/kernel"
)

var (
	theirs = netip.MustParseAddrPort("169.254.169.254:40000")
	ours   = netip.MustParseAddrPort("169.254.169.254:80")
)

// captured is what a kernel said, by the name of what it was asked about, after
// the question. The machines that these tests run on have its byte order.
func captured(t testing.TB, name string) (request, reply []byte) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".nl"))
	if err != nil {
		t.Fatal(err)
	}
	if binary.NativeEndian.Uint32(b) != host.RequestSize {
		t.Skip("SKIPPED: this machine has another byte order than the one that was recorded")
	}
	return b[:host.RequestSize], b[host.RequestSize:]
}

// Table 3.1 of the reference, byte by byte.
func TestQuestion(t *testing.T) {
	t.Parallel()
	want, native := make([]byte, 72), binary.NativeEndian
	native.PutUint32(want[0:], 72)
	native.PutUint16(want[4:], 20) // SOCK_DIAG_BY_FAMILY
	native.PutUint16(want[6:], 1)  // NLM_F_REQUEST, and no dump
	native.PutUint32(want[8:], 9)
	want[16], want[17] = 2, 6
	native.PutUint32(want[20:], 1<<32-1)
	copy(want[24:], []byte{0x9c, 0x40, 0, 80})
	copy(want[28:], []byte{169, 254, 169, 254})
	copy(want[44:], []byte{169, 254, 169, 254})
	copy(want[64:], bytes.Repeat([]byte{0xff}, 8))
	if got := host.Encode(theirs, ours, 9); !bytes.Equal(got, want) {
		t.Errorf("the question is\n% x, want\n% x", got, want)
	}
	want[16] = 10
	from, to := netip.MustParseAddrPort("[fd00:ec2::1]:40000"), netip.MustParseAddrPort("[fd00:ec2::254]:80")
	copy(want[28:], from.Addr().AsSlice())
	copy(want[44:], to.Addr().AsSlice())
	if got := host.Encode(from, to, 9); !bytes.Equal(got, want) {
		t.Errorf("over IPv6 it is\n% x, want\n% x", got, want)
	}
}

// What a kernel said of sockets in every state that one can meet.
func TestRecordedAnswers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		state uint8
		held  bool
		err   error // of what it says about the question
	}{
		"established": {1, true, nil}, "ipv6": {1, true, nil}, "loopback": {1, true, nil}, "mapped": {1, true, nil}, "metadata-ipv6": {1, true, nil},
		"multipath": {1, true, nil}, "half-closed": {5, true, nil}, "closed": {4, false, host.ErrGone}, "time-wait": {6, false, host.ErrGone},
		"listener": {10, true, host.ErrOther},
	} {
		request, reply := captured(t, name)
		port := func(at int) uint16 { return binary.BigEndian.Uint16(request[at:]) }
		address := func(at int) netip.Addr {
			if request[16] == 2 {
				return netip.AddrFrom4([4]byte(request[at:]))
			}
			return netip.AddrFrom16([16]byte(request[at:]))
		}
		from, to := netip.AddrPortFrom(address(28), port(24)), netip.AddrPortFrom(address(44), port(26))
		if again := host.Encode(from, to, 1); !bytes.Equal(again, request) {
			t.Errorf("%s: the question is\n% x, and was\n% x", name, again, request)
		}
		a, err := host.Decode(reply, 1)
		if err != nil || a.State != want.state || a.Inode != 0 != want.held {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
		if want.held && a.Cgroup == 0 {
			t.Errorf("%s: it has no cgroup", name)
		}
		if err := a.Answers(from, to); !errors.Is(err, want.err) || want.err == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, want.err)
		}
		if _, err := host.Decode(reply, 2); !errors.Is(err, host.ErrMalformed) {
			t.Errorf("%s: as the answer to another question: %v", name, err)
		}
		for n := range reply { // cut anywhere
			if _, err := host.Decode(reply[:n], 1); !errors.Is(err, host.ErrMalformed) {
				t.Errorf("%s: %d bytes of it: %v", name, n, err)
			}
		}
	}
	if _, reply := captured(t, "not-found"); true {
		if _, err := host.Decode(reply, 1); !errors.Is(err, host.ErrNotFound) {
			t.Errorf("not found: %v", err)
		}
	}
}

// Where everything is in an answer, whatever has been recorded: table 3.2.
func TestAnswerIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	from, to := netip.MustParseAddrPort("[fd00:ec2::1]:40000"), netip.MustParseAddrPort("[fd00:ec2::254]:81")
	v4, v4to := netip.MustParseAddrPort("127.0.0.3:40000"), netip.MustParseAddrPort("169.254.169.254:81")
	mapped := func(a netip.AddrPort) []byte { b := a.Addr().As16(); return b[:] }
	for what, tc := range map[string]struct {
		family   byte
		src, dst []byte
		want     [2]netip.AddrPort
	}{
		"IPv4":   {2, v4.Addr().AsSlice(), v4to.Addr().AsSlice(), [2]netip.AddrPort{v4, v4to}},
		"IPv6":   {10, from.Addr().AsSlice(), to.Addr().AsSlice(), [2]netip.AddrPort{from, to}},
		"mapped": {10, mapped(v4), mapped(v4to), [2]netip.AddrPort{v4, v4to}},
	} {
		b, native := make([]byte, 16+72+8+12), binary.NativeEndian
		native.PutUint32(b[0:], uint32(len(b))) // #nosec G115 -- a hundred
		native.PutUint16(b[4:], 20)
		native.PutUint32(b[8:], 1)
		b[16], b[17], b[18], b[19] = tc.family, 1, 2, 3 // family, state, timer, retrans
		copy(b[20:], []byte{0x9c, 0x40, 0, 81})
		copy(b[24:], tc.src)
		copy(b[40:], tc.dst)
		for at, value := range map[int]uint32{56: 4, 60: 5, 64: 6, 68: 7, 72: 8, 76: 9, 80: 1002, 84: 77} { // the last are uid and inode
			native.PutUint32(b[at:], value)
		}
		kernel.Attribute(kernel.Attribute(b[88:], 8, []byte{1}), 21, native.AppendUint64(nil, 1<<40+3)) // SHUTDOWN, CGROUP_ID
		want := host.Answer{State: 1, Src: tc.want[0], Dst: tc.want[1], UID: 1002, Inode: 77, Cgroup: 1<<40 + 3}
		if got, err := host.Decode(b, 1); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", what, got, err, want)
		}
	}
}

// spoil changes bytes of a good answer.
func spoil(t *testing.T, change func(b []byte) []byte) []byte {
	t.Helper()
	_, reply := captured(t, "established")
	b := change(bytes.Clone(reply))
	binary.NativeEndian.PutUint32(b, uint32(len(b))) // #nosec G115 -- a hundred
	return b
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(b []byte) []byte{
		"of another type":        func(b []byte) []byte { b[4] = 21; return b },
		"of another family":      func(b []byte) []byte { b[16] = 3; return b },
		"without a whole body":   func(b []byte) []byte { return b[:16+71] },
		"a cgroup of four bytes": func(b []byte) []byte { return append(b[:16+72], 8, 0, 21, 0, 1, 0, 0, 0) },
		"a cgroup of sixteen":    func(b []byte) []byte { return append(b[:16+72], append([]byte{20, 0, 21, 0}, make([]byte, 16)...)...) },
		"a cgroup of none":       func(b []byte) []byte { return append(b[:16+72], 4, 0, 21, 0) },
		"attributes cut short":   func(b []byte) []byte { return append(b[:16+72], 12, 0) },
	} {
		if a, err := host.Decode(spoil(t, change), 1); !errors.Is(err, host.ErrMalformed) || a != (host.Answer{}) {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
	}
	// A kernel before 5.8 says no cgroup, and another error is not "not found".
	if a, err := host.Decode(spoil(t, func(b []byte) []byte { return b[:16+72] }), 1); err != nil || a.Cgroup != 0 || a.Inode == 0 {
		t.Errorf("without attributes: %+v, %v", a, err)
	}
	busy := spoil(t, func(b []byte) []byte {
		b[4] = 2
		return binary.NativeEndian.AppendUint32(b[:16], ^uint32(syscall.EBUSY)+1)
	})
	if _, err := host.Decode(busy, 1); !errors.Is(err, syscall.EBUSY) || errors.Is(err, host.ErrNotFound) || errors.Is(err, host.ErrMalformed) {
		t.Errorf("a refusal: %v", err)
	}
}

// Which answers count, of all that there can be: one about a socket that somebody
// holds, and that is open, or was closed in one direction.
func TestWhichAnswersCount(t *testing.T) {
	t.Parallel()
	for state := range uint8(14) {
		for _, inode := range []uint32{0, 77} {
			a := host.Answer{State: state, Src: theirs, Dst: ours, UID: 1000, Inode: inode, Cgroup: 5}
			want := host.ErrGone
			switch {
			case state == 10: // it listens, even if its addresses are right
				want = host.ErrOther
			case inode != 0 && (state == 1 || state == 4 || state == 5):
				want = nil
			}
			if err := a.Answers(theirs, ours); !errors.Is(err, want) {
				t.Errorf("state %d, inode %d: %v, want %v", state, inode, err, want)
			}
		}
	}
	a := host.Answer{State: 1, Src: theirs, Dst: ours, UID: 1000, Inode: 77}
	other, neighbour := netip.MustParseAddrPort("169.254.169.254:40001"), netip.MustParseAddrPort("127.0.0.2:40000")
	for what, q := range map[string][2]netip.AddrPort{"client": {other, ours}, "address of the same port": {neighbour, ours}, "server": {theirs, other}, "direction": {ours, theirs}} {
		if err := a.Answers(q[0], q[1]); !errors.Is(err, host.ErrOther) {
			t.Errorf("about another %s: %v", what, err)
		}
	}
}

// Whatever the bytes are, they are about two addresses of one family, or an
// error that leaves the caller unknown.
func FuzzDecode(f *testing.F) {
	recorded, err := filepath.Glob("testdata/*.nl")
	if err != nil || len(recorded) == 0 {
		f.Fatalf("no recorded answers: %v", err)
	}
	for _, path := range recorded {
		_, reply := captured(f, strings.TrimSuffix(filepath.Base(path), ".nl"))
		f.Add(reply)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := host.Decode(b, 1)
		var errno syscall.Errno
		switch {
		case err == nil && (!a.Src.IsValid() || !a.Dst.IsValid() || a.Src.Addr().Is4In6() || a.Dst.Addr().Is4In6()):
			t.Errorf("it is from %v to %v", a.Src, a.Dst)
		case err != nil && a != host.Answer{}:
			t.Errorf("%v, and yet it says %+v", err, a)
		case err != nil && !errors.Is(err, host.ErrMalformed) && !errors.Is(err, host.ErrNotFound) && !errors.As(err, &errno):
			t.Errorf("an error that nobody knows: %v", err)
		}
	})
}
