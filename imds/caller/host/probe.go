package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/hostrole/hostrole/imds/caller"
)

// Probe asks for a connection of our own over the loopback interface, which
// must be up, and returns an error that says what to do when the kernel does
// not find it. Where that fails, nobody would be found.
func (e *Enricher) Probe(ctx context.Context) error {
	err := e.probe(ctx, "tcp4", "127.0.0.1:0")
	if errors.Is(err, errNoLoopback) {
		err = e.probe(ctx, "tcp6", "[::1]:0")
	}
	switch {
	case errors.Is(err, errNoLoopback):
		return fmt.Errorf("looking for a socket of our own: %w; set the loopback interface up: `ip link set lo up`", err)
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("looking for a socket of our own: %w: the kernel lacks the module tcp_diag or may not load it; `modprobe tcp_diag`, and name it in /etc/modules-load.d/hostrole.conf", err)
	case err != nil:
		return fmt.Errorf("looking for a socket of our own: %w", err)
	}
	return nil
}

var errNoLoopback = errors.New("no connection over the loopback interface")

func (e *Enricher) probe(ctx context.Context, network, address string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, network, address)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoLoopback, err)
	}
	defer func() { _ = l.Close() }()
	client, err := (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
	if err != nil {
		return fmt.Errorf("%w: %w", errNoLoopback, err)
	}
	defer func() { _ = client.Close() }()
	tcp := client.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	// The connection waits in the listener's queue, which is as good as
	// accepted. The end whose state is looked at is, for once, the client's.
	got, err := e.ask(ctx, caller.Conn{
		Local:  l.Addr().(*net.TCPAddr).AddrPort(),
		Remote: tcp.LocalAddr().(*net.TCPAddr).AddrPort(),
		Raw:    raw,
	})
	if err != nil {
		return err
	}
	inode, err := inodeOf(raw)
	if err != nil {
		return err
	}
	if uint64(got.inode) != inode {
		return fmt.Errorf("%w: inode %d, and ours is %d", ErrOther, got.inode, inode)
	}
	if self := os.Geteuid(); int64(got.uid) != int64(self) && !e.meaningless(got.uid) {
		return fmt.Errorf("%w: uid %d, and ours is %d", ErrUnmapped, got.uid, self)
	}
	return nil
}
