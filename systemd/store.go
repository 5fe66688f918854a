package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Held reports whether there is a service manager that could hold descriptors.
// Whether it does depends on FileDescriptorStoreMax= of the unit, which the
// managers before 254 do not tell.
func Held() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// nameMost is the length in bytes that a name of a descriptor may have.
const nameMost = 255

// Store has the service manager keep a descriptor, beside those that it has,
// for the next process of this unit. The name is of printable ASCII without a
// colon, at most 255 bytes. A manager that keeps none, or has no room, says
// nothing. Without a manager it does nothing and returns nil.
func Store(name string, d syscall.Conn) error {
	if err := checkName(name); err != nil {
		return err
	}
	raw, err := d.SyscallConn()
	if err != nil {
		return fmt.Errorf("storing the descriptor %q: %w", name, err)
	}
	// A copy is made by the kernel, while raw holds the descriptor open. The
	// manager would drop what hangs up; these never do, and need no watch.
	text := "FDSTORE=1\nFDPOLL=0\nFDNAME=" + name
	var sent error
	err = raw.Control(func(fd uintptr) { sent = send(text, int(fd)) }) // #nosec G115 -- a descriptor
	if err = errors.Join(err, sent); err != nil {
		return fmt.Errorf("storing the descriptor %q: %w", name, err)
	}
	return nil
}

// Remove has the service manager forget all descriptors of a name.
func Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := send("FDSTOREREMOVE=1\nFDNAME=" + name); err != nil {
		return fmt.Errorf("removing the stored descriptor %q: %w", name, err)
	}
	return nil
}

// settleLimit is how long the service manager is waited for.
const settleLimit = 5 * time.Second

// Settle waits until the service manager, 246 or newer, has done all that it was
// told before. An error says that it has not within 5 seconds. Without a manager
// it returns nil.
func Settle() error {
	if !Held() {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("waiting for the service manager: %w", err)
	}
	defer func() { _ = r.Close() }()
	err = errors.Join(send("BARRIER=1", int(w.Fd())), w.Close()) // #nosec G115 -- a descriptor
	closed := 0
	for err == nil && closed == 0 {
		wait := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}} // #nosec G115 -- a descriptor
		if closed, err = unix.Poll(wait, int(settleLimit/time.Millisecond)); errors.Is(err, unix.EINTR) {
			err = nil
			continue
		}
		if err == nil && closed == 0 {
			err = os.ErrDeadlineExceeded
		}
	}
	if err != nil {
		return fmt.Errorf("waiting for the service manager: %w", err)
	}
	return nil
}

func checkName(name string) error {
	bad := func(c rune) bool { return c < ' ' || c >= 0x7f || c == ':' }
	if name == "" || len(name) > nameMost || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("a descriptor cannot have the name %q", name)
	}
	return nil
}

// send is one datagram to the manager: go-systemd sends no descriptors.
func send(text string, fds ...int) (err error) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error // net sends no descriptors on a socket that is connected
	err = raw.Write(func(fd uintptr) bool {
		sent = syscall.Sendmsg(int(fd), []byte(text), rights, nil, 0) // #nosec G115 -- a descriptor
		return !errors.Is(sent, syscall.EAGAIN)
	})
	return errors.Join(err, sent)
}

// Received returns what the service manager gave to this process, in its order:
// the sockets of socket units and what an earlier process had it keep, each with
// its name. The first call takes them and their variables out of the
// environment, so that no program that is started later takes itself for their
// owner; the next ones return none. The caller closes the files.
func Received() []*os.File { return slices.Clip(activation.Files(true)) }
