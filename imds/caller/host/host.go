// Package host asks the kernel whose socket is at the other end of a
// connection from this host.
//
// # Why not
//
// Not the netlink library's SocketGet: it dumps the sockets that share the two
// ports and returns the first, so that whoever binds 127.0.0.2 and the right
// port is taken for whoever has 127.0.0.3 and the same one. Not /proc/net/tcp:
// it is a dump as well, and has no cgroup. Not SO_PEERCRED: it is for unix
// sockets. Not a process id or an executable: they are found by a racy scan.
// Not os/user: it reads both files anew at every call.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"sync"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/kernel"
)

// Why the kernel's word on a caller does not count. Every one of them leaves
// the caller unknown; their texts are stable.
var (
	// ErrNotFound matches a client whose socket is not in this network
	// namespace: it is gone altogether, or lives in another one.
	ErrNotFound = errors.New("the client has no socket here")
	// ErrOther matches an answer about another socket than the client's, such
	// as one that listens on the client's port since the client has left it.
	ErrOther = errors.New("the kernel spoke of another socket")
	// ErrGone matches a client that has closed its socket. The kernel says
	// root of those.
	ErrGone = errors.New("the client has closed its socket")
	// ErrUnmapped matches a client whose uid this process cannot see.
	ErrUnmapped = errors.New("the client's uid has no meaning here")
	// ErrEnded matches a connection whose own end is not open any more, so
	// that the answer may have been about a successor with the same addresses.
	ErrEnded = errors.New("the connection has ended")
	// ErrMalformed matches an answer that is not what the kernel sends.
	ErrMalformed = kernel.ErrMalformed
	// ErrNoSocket matches a connection that is not a socket of the kernel.
	ErrNoSocket = errors.New("the connection is not a socket")
	// ErrClosed matches a question to an Enricher or an Inquiry after its Close.
	ErrClosed = errors.New("the enricher is closed")
	// ErrUserNamespace matches a refusal of New to work where uids are not
	// the host's.
	ErrUserNamespace = errors.New("this process is in a user namespace")
)

// sockets is how many questions can be under way at once: netlink sockets are
// not safe for concurrent use, and one question takes microseconds.
const sockets = 4

// Options of an Enricher. The zero Options are right for a daemon.
type Options struct {
	// TrustUserNamespace accepts a user namespace that maps some uids only.
	// Those it maps are true within it; all others read as one and the same
	// and stay refused. It is for the demo and for tests.
	TrustUserNamespace bool
	// Etc holds the files passwd and group, the host's user database.
	// Default: /etc.
	Etc fs.FS
}

// An Enricher names callers from this host: UID, Inode, Cgroup, User and
// Groups. It may be used concurrently. Close releases its sockets.
type Enricher struct {
	pool     chan *conversation // holds all of them but those in use
	close    sync.Once
	users    *database
	overflow uint32 // the uid that stands for all that have no meaning here
}

// New returns an Enricher, once it is sure that the kernel gives this process
// true uids: outside of a user namespace, or with one that is trusted.
func New(o Options) (*Enricher, error) {
	if o.Etc == nil {
		o.Etc = os.DirFS("/etc")
	}
	e := &Enricher{pool: make(chan *conversation, sockets), users: newDatabase(o.Etc), overflow: readOverflow(procOverflow)}
	for range sockets {
		e.pool <- newConversation()
	}
	if err := e.begin(o.TrustUserNamespace); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// begin is what New does that can fail.
func (e *Enricher) begin(trust bool) error {
	for range sockets { // the channel is a queue: each comes once
		c := <-e.pool
		err := c.open()
		e.pool <- c
		if err != nil {
			return err
		}
	}
	if err := checkUIDMap(procUIDMap, trust); err != nil {
		return err
	}
	_, err := e.users.find(0, monotonic())
	return err
}

// Close waits for questions that are under way and closes all sockets. It is
// safe to call twice; every later question fails.
func (e *Enricher) Close() error {
	e.close.Do(func() {
		for range sockets {
			(<-e.pool).hangUp()
		}
		close(e.pool)
	})
	return nil
}

// Enrich asks the kernel for the one socket at the other end of c and fills in
// who. On any doubt it returns an error that matches one of this package's,
// and leaves who alone.
func (e *Enricher) Enrich(ctx context.Context, c caller.Conn, who *caller.Caller) error {
	owner, err := e.ask(ctx, c)
	if err != nil {
		return failed(c, err)
	}
	if e.meaningless(owner.uid) {
		return failed(c, fmt.Errorf("%w: it reads as %d", ErrUnmapped, owner.uid))
	}
	account, err := e.users.find(owner.uid, monotonic())
	if err != nil {
		return failed(c, err)
	}
	who.UID, who.Inode, who.Cgroup = caller.NewID(owner.uid), owner.inode, owner.cgroup
	who.User, who.Groups = account.name, account.groups
	return nil
}

func failed(c caller.Conn, err error) error {
	return fmt.Errorf("asking the kernel who is behind %v: %w", c.Remote, err)
}

// meaningless reports whether uid stands for all uids that cannot be seen from
// here: 65534, or 65535 to callers of 16 bits, unless the host has chosen
// another.
func (e *Enricher) meaningless(uid uint32) bool {
	return uid == 65534 || uid == 65535 || uid == 1<<32-1 || uid == e.overflow
}

// ask makes all checks but the one of the uid.
func (e *Enricher) ask(ctx context.Context, c caller.Conn) (owner, error) {
	if err := valid(c); err != nil {
		return owner{}, err
	}
	var talk *conversation
	var open bool
	select {
	case talk, open = <-e.pool:
	default: // all are in use
		select {
		case talk, open = <-e.pool:
		case <-ctx.Done():
			return owner{}, ctx.Err()
		}
	}
	if !open {
		return owner{}, ErrClosed
	}
	defer func() { e.pool <- talk }()
	if !talk.line.IsOpen() { // since a question that failed
		if err := talk.open(); err != nil {
			return owner{}, err
		}
	}
	return talk.about(c)
}

// A question is the pair of addresses of a connection: the client's own end,
// and what the client dialled.
type question struct{ client, server netip.AddrPort }

func valid(c caller.Conn) error {
	switch {
	case c.Raw == nil:
		return ErrNoSocket
	case !c.Remote.IsValid() || !c.Local.IsValid():
		return fmt.Errorf("%w: it has no addresses", ErrNoSocket)
	case c.Remote.Addr().Is4() != c.Local.Addr().Is4():
		return fmt.Errorf("%w: it goes from %v to %v, of another family", ErrNoSocket, c.Remote, c.Local)
	}
	return nil
}
