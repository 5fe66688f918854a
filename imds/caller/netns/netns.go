// Package netns names callers from other network namespaces, such as the
// containers behind a bridge: it enters their namespace and asks the kernel
// there.
//
// # Why not
//
// Not the source address, nor a table of a runtime's that has it: a neighbour
// can take it, and it is used again for the next container. Not the first
// namespace that knows the connection: a process with a namespace of its own can
// make up any connection in it. Not a namespace that is kept open for the next
// question: it would outlive its container, whose successor may have the same
// address. Not a listener within the container's namespace, which would need no
// question at all: it keeps the namespace as well, and is for later.
package netns

import (
	"context"
	"errors"
	"fmt"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
)

// Why a bridged caller is unknown. Those of package host match as well.
var (
	// ErrAmbiguous matches a connection that more than one namespace claims to
	// be from.
	ErrAmbiguous = errors.New("more than one network namespace has this connection")
	// ErrPrivileges matches what this process may not do.
	ErrPrivileges = errors.New("this process may not look into other network namespaces")
)

// Options of an Enricher. All are required.
type Options struct {
	Host *host.Enricher // of this process's own namespace; not closed
	// Device is the listener's: the bridge whose ports, or the link whose
	// other end, lead to the callers.
	Device string
}

// An Enricher names callers from the namespaces behind one device: UID, Inode
// and Cgroup, all as the host sees them. It may be used concurrently, and keeps
// nothing from one question to the next.
type Enricher struct{ o Options }

// New returns an Enricher. It looks at nothing before it is asked.
func New(o Options) *Enricher { return &Enricher{o} }

// Enrich asks every namespace behind the device for the socket at the other
// end of c. Exactly one must have it. On any doubt it returns an error and
// leaves who alone.
func (e *Enricher) Enrich(ctx context.Context, c caller.Conn, who *caller.Caller) error {
	behind, err := candidates(e.o.Device)
	defer behind.close()
	if err != nil {
		return fmt.Errorf("looking for the network namespaces behind %s: %w", e.o.Device, err)
	}
	found, asked := 0, *who
	reason := host.ErrNotFound
	err = behind.enter(func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		got := *who
		switch err := e.ask(c, &got); {
		case err == nil:
			found++
			asked = got
		// A client that has closed its socket, and one that listens on the same
		// port: both are nobody.
		case errors.Is(err, host.ErrGone), errors.Is(err, host.ErrOther):
			reason = err
		case !errors.Is(err, host.ErrNotFound):
			return err
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("in a network namespace behind %s: %w", e.o.Device, err)
	case found == 0:
		return fmt.Errorf("in %d network namespaces behind %s: %w", len(behind), e.o.Device, reason)
	case found > 1:
		return fmt.Errorf("asking who is behind %v: %w: %d of those behind %s", c.Remote, ErrAmbiguous, found, e.o.Device)
	}
	*who = asked
	return nil
}

// ask asks in the network namespace of the calling thread.
func (e *Enricher) ask(c caller.Conn, who *caller.Caller) error {
	inquiry, err := e.o.Host.Open()
	if err != nil {
		return err
	}
	defer inquiry.Close()
	return inquiry.Enrich(c, who)
}

// Probe returns an error that matches ErrPrivileges, and says what to do, where
// no namespace could be entered.
func (e *Enricher) Probe() error {
	if err := privileged(); err != nil {
		return fmt.Errorf("%w: %w; a service needs AmbientCapabilities=CAP_SYS_ADMIN CAP_SYS_PTRACE for listeners on bridges, and its user namespace must be the host's", ErrPrivileges, err)
	}
	return nil
}
