package redirect_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/agent/redirect"
)

// says answers every connection of a listener with a word, until the test ends.
func says(t *testing.T, l net.Listener, word func(net.Conn) string) {
	t.Helper()
	var open sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); open.Wait() })
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, word(c))
			_ = c.Close()
		}
	})
}

func listen(t *testing.T, at string) net.Listener {
	t.Helper()
	freebind := func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
	}
	l, err := (&net.ListenConfig{Control: freebind}).Listen(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// reached is the word of who answers at an address, or the error.
func reached(t *testing.T, at netip.AddrPort) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		return "cut"
	}
	return string(b)
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// serve has a web server on all addresses, and one of ours behind a redirect to
// come.
func serve(t *testing.T) {
	t.Helper()
	says(t, listen(t, ":80"), func(net.Conn) string { return "web" })
	for _, a := range []netip.Addr{v4, v6} {
		l := redirect.Behind(listen(t, at(a, redirect.Port).String()))
		says(t, l, func(c net.Conn) string { return "ours, as " + c.LocalAddr().String() })
	}
}

func redirected(t *testing.T, with func(redirect.Options) (*redirect.Redirect, error), o redirect.Options) *redirect.Redirect {
	t.Helper()
	if o.Devices == nil {
		o.Devices = []string{"lo"}
	}
	r, err := with(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Release(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestCallersAreLedPastTheWebServer(t *testing.T) {
	needNamespace(t)
	serve(t)
	for _, a := range []netip.Addr{v4, v6} {
		if got := reached(t, at(a, 80)); got != "web" {
			t.Fatalf("%v without a redirect: %s", a, got)
		}
		r := redirected(t, redirect.New, redirect.Options{Addr: a})
		if got, want := reached(t, at(a, 80)), "ours, as "+at(a, 80).String(); got != want {
			t.Errorf("%v: %q, want %q", a, got, want)
		}
		if got := reached(t, at(a, redirect.Port)); got != "cut" && !strings.Contains(got, "reset by peer") {
			t.Errorf("the port behind the redirect of %v, dialled: %q", a, got)
		}
		for _, other := range []string{"127.0.0.1:80", "[::1]:80"} {
			if got := reached(t, netip.MustParseAddrPort(other)); got != "web" {
				t.Errorf("%s with a redirect of %v: %s", other, a, got)
			}
		}
		if err := r.Release(); err != nil {
			t.Fatal(err)
		}
		if got := reached(t, at(a, 80)); got != "web" {
			t.Errorf("%v after Release: %s", a, got)
		}
	}
}

// An engine that publishes port 80 of a container translates it on every
// address of the host.
func TestRedirectComesBeforeTranslationsOfOthers(t *testing.T) {
	needNamespace(t)
	serve(t)
	says(t, listen(t, "127.0.0.1:8099"), func(net.Conn) string { return "container" })
	other := nft(t)
	table := other.AddTable(&nftables.Table{Name: "engine", Family: nftables.TableFamilyIPv4})
	defer func() { other.DelTable(table); _ = other.Flush() }()
	chain := other.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	other.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 80}},
		&expr.Immediate{Register: 1, Data: []byte{8099 >> 8, 8099 & 0xff}},
		&expr.Redir{RegisterProtoMin: 1},
	}})
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := reached(t, at(v4, 80)); got != "container" {
		t.Fatalf("without a redirect: %s", got)
	}
	redirected(t, redirect.New, redirect.Options{Addr: v4})
	if got, want := reached(t, at(v4, 80)), "ours, as 169.254.169.254:80"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := reached(t, netip.MustParseAddrPort("127.0.0.1:80")); got != "container" {
		t.Errorf("what is published: %s", got)
	}
}

func TestOthersCannotChangeAnOwnedTable(t *testing.T) {
	needNamespace(t)
	r := redirected(t, redirect.New, redirect.Options{Addr: v4})
	if !r.Owned() {
		t.Skip("SKIPPED, missing: a kernel whose tables have owners, Linux 5.12")
	}
	before := tables(t)
	other := nft(t)
	other.FlushRuleset()
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	other.DelTable(&nftables.Table{Name: r.Table(), Family: nftables.TableFamilyINet})
	if err := other.Flush(); !errors.Is(err, unix.EPERM) {
		t.Errorf("deleting its table: %v", err)
	}
	if diff := cmp.Diff(before, tables(t)); diff != "" {
		t.Errorf("the tables have changed (-before +after):\n%s", diff)
	}
}

// kept runs r until the test ends, and returns what it tells.
func kept(t *testing.T, with func(redirect.Options) (*redirect.Redirect, error)) (*redirect.Redirect, <-chan redirect.Event) {
	t.Helper()
	events := make(chan redirect.Event, 100)
	r := redirected(t, with, redirect.Options{Addr: v4, Observe: func(e redirect.Event) { events <- e }})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); all.Wait() })
	return r, events
}

func TestRedirectIsPutBack(t *testing.T) {
	needNamespace(t)
	serve(t)
	r, events := kept(t, redirect.NewUnowned)
	if r.Owned() {
		t.Fatal("the table has an owner")
	}
	its := &nftables.Table{Name: r.Table(), Family: nftables.TableFamilyINet}
	var took []time.Duration
	for round, spoil := range []func(*nftables.Conn){
		func(c *nftables.Conn) { c.FlushRuleset() },
		func(c *nftables.Conn) { c.DelTable(its) },
		func(c *nftables.Conn) { c.FlushTable(its) },
		func(c *nftables.Conn) { c.FlushRuleset() },
	} {
		other := nft(t)
		spoil(other)
		if err := other.Flush(); err != nil {
			t.Fatal(err)
		}
		gone := time.Now()
		eventually(t, "the redirect is back", func() bool { return reached(t, at(v4, 80)) == "ours, as 169.254.169.254:80" })
		took = append(took, time.Since(gone))
		if round == 0 {
			if e := <-events; e.Kind != redirect.PutBack || e.Count != 1 || e.Table != r.Table() {
				t.Errorf("told %+v", e)
			}
		}
	}
	slices.Sort(took)
	t.Logf("back after %v", took)
	if median := took[len(took)/2]; median > 100*time.Millisecond { // the slowest is the machine's
		t.Errorf("it took %v at the median", median)
	}
	if len(events) != 0 {
		t.Errorf("told again within a moment: %+v", <-events)
	}
}

func TestTablesOfOthersAreLeftAlone(t *testing.T) {
	needNamespace(t)
	other := nft(t)
	var theirs []*nftables.Table
	for _, name := range []string{"filter", "hostrole", "hostrole-169.254.169.254"} {
		table := other.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyINet})
		other.AddChain(&nftables.Chain{Name: "theirs", Table: table})
		theirs = append(theirs, table)
	}
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, table := range theirs {
			other.DelTable(table)
		}
		if err := other.Flush(); err != nil {
			t.Error(err)
		}
	}()
	before := tables(t)
	r := redirected(t, redirect.New, redirect.Options{Addr: v4})
	if r.Table() != "hostrole-169.254.169.254-next" {
		t.Errorf("its table is %s", r.Table())
	}
	if err := r.Release(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tables are as before", func() bool { return cmp.Equal(before, tables(t)) })

	another := other.AddTable(&nftables.Table{Name: "hostrole-169.254.169.254-next", Family: nftables.TableFamilyINet})
	other.AddChain(&nftables.Chain{Name: "theirs", Table: another})
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	theirs = append(theirs, another)
	if r, err := redirect.New(redirect.Options{Addr: v4, Devices: []string{"lo"}}); !errors.Is(err, redirect.ErrHeld) {
		t.Errorf("both names are somebody else's: %v, %v", r, err)
	}
}

func TestLeftOversOfACrashAreReplaced(t *testing.T) {
	needNamespace(t)
	serve(t)
	crashed, err := redirect.NewUnowned(redirect.Options{Addr: v4, Devices: []string{"lo", "gone0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := crashed.Crash(); err != nil {
		t.Fatal(err)
	}
	if got := tables(t); len(got) != 1 {
		t.Fatalf("a crash left %q", got)
	}
	r := redirected(t, redirect.New, redirect.Options{Addr: v4})
	if r.Table() != crashed.Table() || len(tables(t)) != 1 {
		t.Errorf("it is in %s, and the tables are %q", r.Table(), tables(t))
	}
	if got := reached(t, at(v4, 80)); got != "ours, as 169.254.169.254:80" {
		t.Error(got)
	}
}

func TestOwnedTableGoesWithACrash(t *testing.T) {
	needNamespace(t)
	r, err := redirect.New(redirect.Options{Addr: v4, Devices: []string{"lo"}})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Owned() {
		t.Skip("SKIPPED, missing: a kernel whose tables have owners, Linux 5.12")
	}
	if err := r.Crash(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no table is left", func() bool { return len(tables(t)) == 0 })
}

// A service manager keeps a copy of the socket: the table stays, the next
// process has its own beside it, and a third one is refused.
func TestCopyOfTheSocketKeepsTheTable(t *testing.T) {
	needNamespace(t)
	serve(t)
	first := redirected(t, redirect.New, redirect.Options{Addr: v4})
	if !first.Owned() {
		t.Skip("SKIPPED, missing: a kernel whose tables have owners, Linux 5.12")
	}
	raw, err := first.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var held int
	if err := raw.Control(func(fd uintptr) { held, err = unix.Dup(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	manager := os.NewFile(uintptr(held), "manager")
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	if got := reached(t, at(v4, 80)); got != "ours, as 169.254.169.254:80" {
		t.Errorf("between two processes: %s", got)
	}
	next := redirected(t, redirect.New, redirect.Options{Addr: v4})
	if next.Table() == first.Table() || len(tables(t)) != 2 {
		t.Errorf("the next one is in %s, and the tables are %q", next.Table(), tables(t))
	}
	if r, err := redirect.New(redirect.Options{Addr: v4, Devices: []string{"lo"}}); !errors.Is(err, redirect.ErrHeld) {
		t.Errorf("a third one: %v, %v", r, err)
	}
	if err := manager.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first table is gone", func() bool { return len(tables(t)) == 1 })
	if got := reached(t, at(v4, 80)); got != "ours, as 169.254.169.254:80" {
		t.Errorf("after it: %s", got)
	}
}

func TestWhatCannotBeRedirectedIsRefused(t *testing.T) {
	for name, o := range map[string]redirect.Options{
		"no address":         {Devices: []string{"lo"}},
		"a loopback address": {Addr: netip.MustParseAddr("127.0.0.1"), Devices: []string{"lo"}},
		"an address of a link": {Addr: netip.MustParseAddr("fe80::1%lo"),
			Devices: []string{"lo"}},
		"no device":         {Addr: v4},
		"a nameless device": {Addr: v4, Devices: []string{""}},
	} {
		if r, err := redirect.New(o); err == nil {
			t.Errorf("%s: %v", name, errors.Join(errors.New("made"), r.Release()))
		}
	}
}

func TestMissingCapabilityIsNamed(t *testing.T) {
	needNamespace(t)
	got := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends without its capabilities
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			got <- err
			return
		}
		_, err := redirect.New(redirect.Options{Addr: v4, Devices: []string{"lo"}})
		got <- err
	}()
	if err := <-got; !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("without capabilities: %v", err)
	}
}

func TestKernelsWithoutNftablesAreTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		is     error
		phrase string
	}{
		{"no nf_tables", redirect.Explain(unix.EPROTONOSUPPORT), redirect.ErrKernel, "no nf_tables"},
		{"nf_tables without its part of nfnetlink", redirect.Explain(unix.EINVAL), redirect.ErrKernel, "no nf_tables"},
		{"no chains that translate", redirect.Lacking(unix.ENOENT), redirect.ErrKernel, "nft_chain_nat"},
		{"none of the family inet", redirect.Lacking(unix.EOPNOTSUPP), redirect.ErrKernel, "Linux 5.2"},
		{"no capability", redirect.Lacking(unix.EPERM), os.ErrPermission, "CAP_NET_ADMIN"},
	} {
		if !errors.Is(c.err, c.is) || !strings.Contains(c.err.Error(), c.phrase) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
}
