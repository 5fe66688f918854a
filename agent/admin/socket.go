package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

var (
	// ErrInUse matches a path on which another daemon answers.
	ErrInUse = errors.New("another daemon answers there")
	// ErrNotSocket matches a path that is something else than a socket, and is
	// left alone.
	ErrNotSocket = errors.New("it is there, and is no socket")
)

// A Socket is the listener at a path.
type Socket struct {
	net.Listener
	path    string
	made    fs.FileInfo // what Close may remove
	folder  string      // made for it; "" if it was there
	Warning error       // the group could not be given the socket; nil if it could
}

// Listen opens the socket at a path. Its folder is made if it is not there.
// What a crash has left over is replaced; a socket that somebody answers on is
// not ([ErrInUse]), and nothing but a socket is ever removed ([ErrNotSocket]).
// Everybody may connect: see [Server]. The group is the socket's for ls(1) to
// show, and for an operator who takes the right to connect from all others.
func Listen(ctx context.Context, path, group string) (*Socket, error) {
	fail := func(err error) (*Socket, error) {
		return nil, fmt.Errorf("opening the operator's socket %s: %w", path, err)
	}
	s := &Socket{path: path}
	dir := filepath.Dir(path)
	switch err := os.Mkdir(dir, 0o755); { // #nosec G301 -- every local user goes through it
	case err == nil:
		s.folder = dir
		err = os.Chmod(dir, 0o755) // #nosec G302 -- whatever the umask left
		if err != nil {
			return fail(errors.Join(err, os.Remove(dir)))
		}
	case !isThere(dir):
		return fail(err)
	}
	undo := func(err error) (*Socket, error) {
		if s.folder != "" {
			_ = os.Remove(s.folder)
		}
		return fail(err)
	}
	if err := makeRoom(ctx, path); err != nil {
		return undo(err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		var op *net.OpError // which would name the path again
		if errors.As(err, &op) {
			err = op.Err
		}
		return undo(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // Close looks first
	s.Listener = l
	if s.made, err = os.Lstat(path); err == nil {
		err = os.Chmod(path, 0o666) // #nosec G302 -- the server asks the kernel who each peer is
	}
	if err != nil {
		return fail(errors.Join(err, s.Close()))
	}
	s.Warning = give(path, group)
	return s, nil
}

func isThere(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}

// makeRoom removes a socket that nobody answers on.
func makeRoom(ctx context.Context, path string) error {
	switch st, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != fs.ModeSocket:
		return ErrNotSocket
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(ErrInUse, c.Close())
	}
	if !refused(err) { // a full queue, or a right that is missing, is no proof that nobody is there
		return fmt.Errorf("%w, or did: %w", ErrInUse, err)
	}
	return os.Remove(path)
}

// give makes the socket the group's.
func give(path, group string) error {
	if group == "" {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return fmt.Errorf("there is no group %s: only root and the daemon's own user may read status; `groupadd --system %[1]s` makes it, and [admin] of the configuration may name another", group)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	// In the sandbox of the unit it is the group's already, and giving is a system
	// call that is denied.
	if made, err := os.Lstat(path); err == nil {
		if st, ok := made.Sys().(*syscall.Stat_t); ok && int(st.Gid) == gid {
			return nil
		}
	}
	if err := os.Lchown(path, -1, gid); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("giving the operator's socket to the group %s: %w", group, err)
	}
	return nil // without the right to give it away the server knows the members all the same
}

// Close closes the socket and removes it, if it is still this one, and the
// folder that was made for it.
func (s *Socket) Close() error {
	err := s.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if now, e := os.Lstat(s.path); e == nil && s.made != nil && os.SameFile(now, s.made) {
		err = errors.Join(err, os.Remove(s.path))
	}
	if s.folder != "" {
		_ = os.Remove(s.folder) // somebody may have put something there
	}
	return err
}
