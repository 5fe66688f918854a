package handover

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrOpen matches the failure of a file that others may have read or changed.
var ErrOpen = errors.New("it is not this user's alone")

// WriteFile puts b at path, for the owner alone: a reader finds what was there
// before, or all of b.
func WriteFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// ReadFile reads what WriteFile has written. Of a file that belongs to another
// user, that others may open, that is a link, or that is larger than [Limit],
// it reads nothing: its error matches [ErrOpen] or [ErrForm]; that of a file
// that is not there matches fs.ErrNotExist.
func ReadFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file: %w", path, ErrForm)
	case !ok || int64(owner.Uid) != int64(os.Geteuid()) || st.Mode()&fs.FileMode(0o077) != 0:
		return nil, fmt.Errorf("%s: %w", path, ErrOpen)
	}
	b, err := io.ReadAll(io.LimitReader(f, Limit+1))
	switch {
	case err != nil:
		clear(b)
		return nil, err
	case len(b) > Limit:
		clear(b)
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrForm, Limit)
	}
	return b, nil
}
