package upstream

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// dialTimeout bounds the look-up of a name, and the connection.
	dialTimeout = 3 * time.Second
	// addressAge is for how long an address is a stand-in for its name. Servers
	// move; one that has not for a day of failing DNS is more likely there than
	// nowhere, and TLS still asks it for the name.
	addressAge = 24 * time.Hour
)

// A dialer remembers at which address each name has been reached, and goes
// there while DNS has no answer. Which address is dialled decides nothing about
// trust: the certificate does.
type dialer struct {
	net.Dialer
	now func() time.Time
	old func(name, address string) // is told of a stand-in; nil for nobody

	mu    sync.Mutex
	known map[string]place // guarded by mu: by host and port as asked for
}

type place struct {
	address string // with its port
	at      time.Time
}

func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.Dialer.DialContext(ctx, network, address)
	var unnamed *net.DNSError
	switch {
	case err == nil:
		d.note(address, conn.RemoteAddr().String())
		return conn, nil
	case !errors.As(err, &unnamed) || ctx.Err() != nil:
		return nil, err
	}
	last := d.last(address)
	if last == "" {
		return nil, err
	}
	if conn, again := d.Dialer.DialContext(ctx, network, last); again == nil {
		if d.old != nil {
			d.old(unnamed.Name, last)
		}
		return conn, nil
	}
	return nil, err // that of DNS, which is what someone has to mend
}

func (d *dialer) note(name, address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = map[string]place{}
	}
	d.known[name] = place{address, d.now()}
}

// last is where a name was reached within addressAge, or "".
func (d *dialer) last(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.known[name]
	if !ok || d.now().Sub(p.at) > addressAge {
		return ""
	}
	return p.address
}
