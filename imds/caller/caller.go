// Package caller is who is at the other end of a connection: the Caller value
// and the chain of Enrichers that fill it with the kernel's evidence.
//
// # Why not
//
// Not the source address: any neighbour can take it. Not a process id: it is
// found by a racy scan and re-used. Not a header or a token: what a client
// says of itself proves nothing. Not a default for the unknown: a wrong role
// is worse than none.
package caller

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
)

// An ID is a uid or gid, kept one higher: zero is unknown, because a plain 0
// is root.
type ID struct{ oneMore uint64 }

// NewID returns the ID of a uid or gid.
func NewID(n uint32) ID { return ID{uint64(n) + 1} }

// Get returns the uid or gid, and whether it is known.
func (i ID) Get() (n uint32, known bool) {
	if i.oneMore == 0 {
		return 0, false
	}
	return uint32(i.oneMore - 1), true // #nosec G115 -- NewID took 32 bits
}

// String is the number, or "unknown".
func (i ID) String() string {
	n, known := i.Get()
	if !known {
		return "unknown"
	}
	return strconv.FormatUint(uint64(n), 10)
}

// A Caller is the kernel's word on the process behind a connection, and on an
// EKS listener that of a verified token on the pod. A fact that is not known
// has its zero value; the zero Caller is unknown altogether. A Caller is not
// changed after identification.
type Caller struct {
	Listener string         // name of the listener that accepted the connection
	Remote   netip.AddrPort // where it came from; never enough by itself
	UID      ID             // creator of the socket, in the host's user namespace
	User     string         // name of UID in the host's user database, "" without one
	Groups   []string       // names of the groups of UID there, primary first
	Cgroup   uint64         // cgroup v2 id of the socket's creator; 0 or 1 is unknown
	Inode    uint32         // of the client's socket, for audit; 0 is unknown

	// Unit is that of the host's service manager in which the caller runs, by
	// the name that systemctl shows: "app.service". All that a user's own
	// manager runs is that user's "user@1000.service".
	Unit  string
	Slice string // that Unit is in: "system.slice"
	// Container is the id, or the machine's name, of the container in which
	// the caller runs. One that is inside of another, or of a unit that could
	// have named it as it likes, follows that one's name and a slash:
	// "user@1000.service/4f2b…".
	Container string
	Runtime   string // that made Container: "docker"; "" when that cannot be told
	// What follows is the runtime's word on Container, where it was asked and
	// answered. It is not the kernel's: whoever may give the runtime orders
	// says what it is.
	ContainerName  string            // "web"; of one that is inside of another, after the same words as in Container
	Image          string            // by the name that the container was made from: "registry.example.com/web:7"
	ImageDigest    string            // of its contents: "sha256:…"
	Labels         map[string]string // of the container; not changed after identification
	Namespace      string            // of the Kubernetes pod that the container is of
	ServiceAccount string            // of that pod
	// Pod is the namespace and the service account of a verified token, with a
	// slash between them: "shop/api".
	Pod string
}

// Known reports whether the kernel said whose socket it is, or a token was
// verified.
func (c Caller) Known() bool { _, known := c.UID.Get(); return known || c.Pod != "" }

// Facts are the names that [Caller.Fact] knows, for those who name a session
// after its caller.
func Facts() []string { return []string{"unit", "user", "uid", "container"} }

// Fact returns the fact of that name; "" for one that is not known. Of a caller
// whose uid the kernel did not say, none is.
func (c Caller) Fact(name string) string {
	if _, known := c.UID.Get(); !known {
		return ""
	}
	switch name {
	case "unit":
		return c.Unit
	case "user":
		return c.User
	case "uid":
		return c.UID.String()
	case "container":
		return c.Container
	}
	return ""
}

// String describes c for a log line.
func (c Caller) String() string {
	if !c.Known() {
		return fmt.Sprintf("unknown caller %v on %s", c.Remote, c.Listener)
	}
	var b strings.Builder
	if c.Pod != "" {
		b.WriteString("pod " + c.Pod + " ")
	}
	if _, known := c.UID.Get(); known {
		b.WriteString("uid " + c.UID.String() + " ")
		if c.User != "" {
			b.WriteString("(" + c.User + ") ")
		}
	}
	switch {
	case c.Container != "":
		b.WriteString("in container " + c.Container + " ")
	case c.Unit != "":
		b.WriteString("in " + c.Unit + " ")
	}
	return b.String() + "on " + c.Listener
}

// A Conn is one end of an accepted connection, as far as an Enricher needs it.
type Conn struct {
	Local, Remote netip.AddrPort  // IPv4 addresses are never in their IPv6-mapped form
	Raw           syscall.RawConn // our own socket; nil in memory
}

// An Enricher adds what it knows to a Caller and leaves the rest alone. One
// that knows nothing returns nil; one that finds a contradiction, an error,
// and the caller counts as unknown.
type Enricher interface {
	Enrich(ctx context.Context, c Conn, who *Caller) error
}

// A Chain asks its Enrichers in order.
type Chain []Enricher

// Identify names the caller behind c on the listener of that name. On an error
// the returned Caller knows the listener and the address and nothing else.
func (ch Chain) Identify(ctx context.Context, listener string, c Conn) (Caller, error) {
	who := Caller{Listener: listener, Remote: c.Remote}
	for _, e := range ch {
		if err := e.Enrich(ctx, c, &who); err != nil {
			return Caller{Listener: listener, Remote: c.Remote}, err
		}
	}
	return who, nil
}
