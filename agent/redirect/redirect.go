// Package redirect leads what callers send to port 80 of a metadata address to
// a port of ours with nftables, where a web server has port 80 on all addresses.
//
// # Order
//
// Open the sockets on [Port] first, then make the Redirect, and put the address
// on the host last: there is no moment in which a request reaches the web server.
// The socket is also what keeps two daemons apart. Both want the same one.
//
// # The table
//
// Every address has a table of its own in the family inet, called
// "hostrole-169.254.169.254", and nothing outside of it is changed. Where the
// kernel can (Linux 5.12), the table belongs to the netlink socket that made it:
// others, and `nft flush ruleset`, cannot change it, and it goes with the last
// process that holds the socket, however that one ends. While a service manager
// keeps the socket, the next process makes a second table beside the first, and
// lets go of that: one of them is always there. Without an owner, what a crash
// leaves is recognised by its name and its chains, and replaced.
//
// Its chains come before those of others that translate addresses. An engine
// that publishes port 80 of a container does so on every address of the host,
// and so on this one.
//
// # Why not
//
// Not another address for the web server: it is not ours to configure, and a
// wildcard is what it has by default. Not the port of the socket as a redirect
// to loopback: the address would change on the way, and with it which sockets on
// which links can be reached. Not a free port: an ordinary user could take it
// while hostrole is away, and answer with credentials of his own. Not iptables:
// a program for each look, of which a host has two that disagree. Not a socket
// program of eBPF, which needs more rights and newer kernels than the rest.
package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
)

const (
	// Port is the port of the sockets behind a redirect, on the metadata address
	// itself. Like 80 it is one that ordinary users cannot take; nobody is known
	// to use it.
	Port = 254
	// From is the port that callers dial.
	From = 80
)

var (
	// ErrHeld matches the refusal to make a table that another program has.
	ErrHeld = errors.New("the table is in use")
	// ErrKernel matches a kernel without what a redirect needs.
	ErrKernel = errors.New("the kernel cannot redirect with nftables")
)

// loopback is the device on which the callers on this host arrive.
const loopback = "lo"

// Options of a Redirect.
type Options struct {
	Addr netip.Addr // the metadata address
	// Devices are those whose callers are led to us: "lo" for the callers on
	// this host, a bridge for those behind it. All others meet the web server.
	Devices []string
	// Observe is told what happens to the redirect, by Run. It must not block.
	// nil is for nobody.
	Observe func(Event)
}

// A Redirect is there from New to Release. It may be used concurrently.
type Redirect struct {
	o Options

	mu       sync.Mutex
	kernel   kernel
	rules    []uint64 // handles of the rules that were made; guarded by mu
	released bool     // guarded by mu
}

// New makes the redirect. It refuses, and changes nothing, when others have the
// tables of its names ([ErrHeld]), on kernels that lack what it needs
// ([ErrKernel]), and without CAP_NET_ADMIN ([os.ErrPermission]). On other
// systems than Linux the error is [errors.ErrUnsupported].
func New(o Options) (*Redirect, error) { return newRedirect(o, flagOwner) }

// flagOwner ties a table to the socket that made it.
const flagOwner = 0x2 // NFT_TABLE_F_OWNER

func newRedirect(o Options, flags uint32) (*Redirect, error) {
	o.Addr = o.Addr.Unmap()
	if !o.Addr.IsValid() || o.Addr.IsLoopback() || o.Addr.Zone() != "" || len(o.Devices) == 0 || slices.Contains(o.Devices, "") {
		return nil, fmt.Errorf("redirecting %v on %q: it takes an address of no particular link, and links", o.Addr, o.Devices)
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	r := &Redirect{o: o, kernel: kernel{flags: flags}}
	if err := r.kernel.open(); err != nil {
		return nil, r.failed(err)
	}
	var err error
	for _, r.kernel.table = range names(o.Addr) {
		if r.rules, err = r.kernel.put(o.Addr, o.Devices); !errors.Is(err, ErrHeld) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(r.failed(err), r.kernel.close())
	}
	return r, nil
}

func (r *Redirect) failed(err error) error {
	return fmt.Errorf("redirecting port %d of %v to port %d with nftables: %w", From, r.o.Addr, Port, err)
}

// names are what the table of an address may be called: the second is for a
// process whose predecessor's table is there until it lets go.
func names(a netip.Addr) []string {
	first := "hostrole-" + strings.ReplaceAll(a.String(), ":", "_")
	return []string{first, first + "-next"}
}

// Table is the name of the table, of the family inet.
func (r *Redirect) Table() string { return r.kernel.table }

// Owned reports whether the kernel keeps the table for this process alone, and
// until it ends.
func (r *Redirect) Owned() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kernel.owned
}

// SyscallConn is that of the socket to which the table belongs. Whoever holds a
// copy keeps the table.
func (r *Redirect) SyscallConn() (syscall.RawConn, error) { return r.kernel.raw() }

// Release takes the redirect off, but for a table whose owner has a copy
// elsewhere. Run puts nothing back from then on. The second time it does
// nothing.
func (r *Redirect) Release() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.released {
		return nil
	}
	r.released = true
	if err := r.kernel.close(); err != nil {
		return fmt.Errorf("taking off the redirect of %v: %w", r.o.Addr, err)
	}
	return nil
}

// look puts the redirect back if it is not there as it was made, and reports
// whether it did.
func (r *Redirect) look() (put bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.released {
		return false, nil
	}
	there, err := r.kernel.list()
	if err == nil && len(there) > 0 && slices.Equal(there, r.rules) {
		return false, nil
	}
	if r.rules, err = r.kernel.put(r.o.Addr, r.o.Devices); err != nil {
		return false, r.failed(err)
	}
	return true, nil
}
