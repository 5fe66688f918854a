// Package estate is what a process of the daemon takes over from the one before,
// and leaves to the next, by way of the service manager: sockets, the token key,
// live credentials.
//
// # Why not
//
// Not a new process that asks the old one: after a crash there is none to ask.
// Not sockets that are shared by SO_REUSEPORT: what waits in the queue of the
// one that ends is reset. Not one name for the state: replacing it would be a
// moment without one.
package estate

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/token"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/handover"
	"github.com/hostrole/hostrole/rotation/store"
	"github.com/hostrole/hostrole/systemd"
)

const (
	// stateName and socketName begin the names of what the service manager
	// keeps. A state is stored under one of two names in turn, so that there is
	// none only before the first.
	stateName  = "state-"
	socketName = "listener "
	tableName  = "table " // sockets that own tables of nftables
)

// An Estate is what a process of this daemon takes over from the one before,
// and leaves to the next, by way of the service manager.
type Estate struct {
	o       Options
	mu      sync.Mutex // for sockets, once there is more than one goroutine
	sockets []*inherited
	tables  []*os.File        // of the process before; they are of no use but to be there
	state   handover.Contents // zero: there was none, or none to be used

	turn  int                                      // 0 or 1: the name of the next state
	last  map[credential.Key]credential.Credential // in the newest state
	stale bool                                     // there is no state of this process yet
}

// An inherited socket listens, and serves nobody yet.
type inherited struct {
	net.Listener
	name   string
	addr   netip.AddrPort
	device string
}

// Options are required, but for the last two.
type Options struct {
	Log    *slog.Logger
	Now    func() time.Time     // wall clock
	Boot   func() time.Duration // time since boot, suspend included
	BootID string               // names this boot; "" where the kernel does not, and then nothing is handed over

	RuntimeDir string // takes the state where no service manager does, if it is in memory; "" for none
	Reboot     Reboot // zero: a reboot begins without credentials
}

// Inherit takes what the service manager has for this process. A second call in
// one process finds nothing.
func Inherit(o Options) *Estate {
	e := &Estate{o: o, stale: true}
	for _, f := range systemd.Received() {
		if strings.HasPrefix(f.Name(), stateName) {
			e.read(f)
		} else if strings.HasPrefix(f.Name(), tableName) {
			e.tables = append(e.tables, f)
			continue // open: with it the table would go
		} else if s, err := adopt(f); err == nil {
			e.sockets = append(e.sockets, s)
		} else {
			o.Log.Warn("a descriptor of the service manager is not used", "name", f.Name(), "error", err.Error())
			if strings.HasPrefix(f.Name(), socketName) {
				e.warn(systemd.Remove(f.Name()))
			}
		}
		_ = f.Close()
	}
	e.readRuntime()
	e.readReboot()
	return e
}

// read takes the newest state that can be used.
func (e *Estate) read(f *os.File) {
	b, err := handover.Unseal(f)
	defer clear(b)
	if err != nil {
		e.o.Log.Warn("a state of the process before cannot be used", "error", err.Error())
		return
	}
	if e.use(b) {
		e.turn = 0
		if f.Name() == stateName+"0" {
			e.turn = 1
		}
	}
}

// use takes a state, unless a newer one has been taken.
func (e *Estate) use(b []byte) bool {
	c, err := handover.Decode(b, handover.Moment{BootID: e.o.BootID, Wall: e.o.Now(), Boot: e.o.Boot()})
	if err == nil && len(c.TokenKey) != token.KeySize {
		err = fmt.Errorf("%w: its token key has %d bytes", handover.ErrForm, len(c.TokenKey))
	}
	if err != nil {
		e.o.Log.Warn("a state of the process before cannot be used", "error", err.Error())
		return false
	}
	if e.state.TokenKey != nil && c.Written < e.state.Written {
		return false
	}
	e.state, e.last, e.stale = c, maps.Clone(c.Credentials), false
	return true
}

// adopt makes a listener of a descriptor, which stays open.
func adopt(f *os.File) (*inherited, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	s := &inherited{Listener: l, name: f.Name()}
	t, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("it is no TCP socket: %w", os.ErrInvalid)
	}
	at := t.Addr().(*net.TCPAddr).AddrPort()
	s.addr = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if s.device, err = deviceOf(t); err != nil {
		_ = l.Close()
		return nil, err
	}
	return s, nil
}

// TokenKey is the key of the process before, or a new one.
func (e *Estate) TokenKey() []byte {
	if e.state.TokenKey == nil {
		e.state.TokenKey = token.NewKey()
	}
	return e.state.TokenKey
}

// Restore makes the credentials of the process before the first outcomes of
// their keys, and returns those that are of no job: of single callers, who have
// not asked yet. It comes before the rotation, which is their writer.
func (e *Estate) Restore(st *store.Store, jobs []rotation.Job) (left map[credential.Key]credential.Credential) {
	left = e.state.Credentials
	e.state.Credentials = nil
	for _, j := range jobs {
		if c, ok := left[j.Key]; ok {
			st.Slot(j.Key).Publish(c, e.o.Now())
			delete(left, j.Key)
		}
	}
	return left
}

// KeepOnly gives up the sockets that no listener wants. One that is bound to
// another device is not wanted, whatever its address.
func (e *Estate) KeepOnly(wanted func(netip.AddrPort, string) bool) {
	var kept []*inherited
	gone := false
	for _, s := range e.sockets {
		if wanted(s.addr, s.device) {
			kept = append(kept, s)
			continue
		}
		_ = s.Close()
		if strings.HasPrefix(s.name, socketName) {
			e.warn(systemd.Remove(s.name))
			gone = true
			continue
		}
		e.o.Log.Warn("a socket of the service manager is not used: no listener has its address and its ingress", "name", s.name,
			"address", s.addr.String(), "device", s.device, "hint", "a socket unit needs ListenStream= and BindToDevice= as the listener has address and ingress")
	}
	e.sockets = kept
	if gone { // while the manager has them, their ports are taken
		e.warn(systemd.Settle())
	}
}

// Listen takes the socket over that the service manager has, or opens one and
// has it kept: if this process crashes, clients wait for the next one instead
// of being refused.
func (e *Estate) Listen(ctx context.Context, at netip.AddrPort, device string) (net.Listener, error) {
	if l := e.take(at, device); l != nil {
		return l, nil
	}
	l, err := imds.Listen(ctx, at, device)
	if err != nil {
		return nil, err
	}
	if d, ok := l.(syscall.Conn); ok {
		e.warn(systemd.Store(nameOf(at, device), d))
	}
	return l, nil
}

// take returns an inherited socket, which is the caller's then, or nil.
func (e *Estate) take(at netip.AddrPort, device string) net.Listener {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, s := range e.sockets {
		if s.addr == at && s.device == device {
			e.sockets = append(e.sockets[:i], e.sockets[i+1:]...)
			return s.Listener
		}
	}
	return nil
}

// Forget has a socket kept no longer, because its device has gone.
func (e *Estate) Forget(at netip.AddrPort, device string) { e.warn(systemd.Remove(nameOf(at, device))) }

// nameOf is how the service manager knows a socket.
func nameOf(at netip.AddrPort, device string) string {
	return strings.TrimSpace(socketName + strings.ReplaceAll(at.String(), ":", "_") + " " + device)
}

// KeepTables has the sockets kept that own tables of nftables, by the names of
// the tables, and lets go of those of the process before, whose tables go.
func (e *Estate) KeepTables(owners map[string]syscall.Conn) {
	for table, socket := range owners {
		e.warn(systemd.Store(tableName+table, socket))
	}
	e.DropTables()
}

// DropTables lets go of the tables of the process before, and reports whether
// there were any.
func (e *Estate) DropTables() (any bool) {
	for _, f := range e.tables {
		e.warn(systemd.Remove(f.Name()))
		_ = f.Close()
		any = true
	}
	e.tables = nil
	return any
}

func (e *Estate) warn(err error) {
	if err != nil {
		e.o.Log.Warn("telling the service manager", "error", err.Error())
	}
}

// Close closes what was not taken over.
func (e *Estate) Close() {
	for _, s := range e.sockets {
		_ = s.Close()
	}
	e.sockets = nil
	for _, f := range e.tables {
		_ = f.Close()
	}
	e.tables = nil
}

// Write leaves a state with these credentials, unless the newest has them.
// Only one goroutine at a time calls it.
func (e *Estate) Write(live map[credential.Key]credential.Credential) error {
	same := func(a, b credential.Credential) bool {
		return a.AccessKeyID == b.AccessKeyID && a.Received == b.Received && a.Expires.Equal(b.Expires)
	}
	file := e.o.runtimeFile()
	if !systemd.Held() && file == "" && e.o.Reboot.Path == "" || !e.stale && maps.EqualFunc(e.last, live, same) {
		return nil
	}
	if err := e.hold(live, file); err != nil {
		return err
	}
	e.last, e.stale = live, false
	return e.writeReboot(live)
}

// hold leaves a state with the service manager, or in the file where there is
// none.
func (e *Estate) hold(live map[credential.Key]credential.Credential, file string) error {
	if !systemd.Held() && file == "" {
		return nil
	}
	b, err := handover.Encode(handover.Contents{TokenKey: e.state.TokenKey, Credentials: live, Written: e.o.Boot()}, e.o.BootID)
	if err != nil {
		return err
	}
	defer clear(b)
	if file != "" {
		return handover.WriteFile(file, b)
	}
	f, err := handover.Seal(b)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	name := func(turn int) string { return fmt.Sprint(stateName, turn) }
	if err := systemd.Store(name(e.turn), f); err != nil {
		return err
	}
	e.turn = 1 - e.turn
	return systemd.Remove(name(e.turn)) // the one before; its name is the next one's
}
