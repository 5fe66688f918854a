package handover

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// seals keep memory as it is for whoever has a descriptor of it.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// Seal puts b into memory without a name that nobody can change any more, the
// caller included. It lives as long as a descriptor of it is open somewhere.
func Seal(b []byte) (*os.File, error) {
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("hostrole", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("hostrole", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("making sealed memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "sealed memory") // #nosec G115 -- a descriptor
	_, err = f.Write(b)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("filling sealed memory: %w", err), f.Close())
	}
	return f, nil
}

// Unseal returns what is in sealed memory. What has not all seals is refused,
// and so is what is larger than [Limit]. The result holds secrets: clear it
// after use.
func Unseal(f *os.File) ([]byte, error) {
	got, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no memory that can be sealed: %w", ErrForm, err)
	}
	if got&seals != seals {
		return nil, fmt.Errorf("%w: it is not sealed", ErrForm)
	}
	about, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading sealed memory: %w", err)
	}
	if about.Size() > Limit {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrForm, Limit)
	}
	b := make([]byte, about.Size())
	// At an offset: the position is shared with every other descriptor.
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading sealed memory: %w", err)
	}
	return b, nil
}
