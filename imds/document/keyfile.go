package document

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// fileLimit bounds a key file, in bytes. One of ours has three thousand.
const fileLimit = 64 << 10

// LoadOrCreate returns the key that the file at path holds. If there is no
// file it makes one, with mode 0600, of a key for name as [Generate] does; its
// folder must be there. Of several that make one at the same time, all get the
// key of the first. A file that is damaged, or that others than its owner may
// read, is an error and stays as it is: whoever verifies knows its
// certificate, so only the operator can give it up.
func LoadOrCreate(path, name string, now time.Time) (*Key, error) {
	k, err := load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k, err = Generate(name, now); err != nil {
		return nil, err
	}
	text, err := k.file()
	if err == nil {
		err = create(path, text)
	}
	if errors.Is(err, fs.ErrExist) {
		return load(path)
	}
	if err != nil {
		return nil, fmt.Errorf("writing the new site key %s: %w: is its folder there, and may this user write to it?", path, err)
	}
	return k, nil
}

func load(path string) (*Key, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("reading the site key: %w", err)
	}
	k, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("reading the site key %s: %w: restore the file, or remove it to have a new key made and hand out the new certificate", path, err)
	}
	return k, nil
}

func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s may be read or changed by others than its owner: chmod 600 it, or remove it if somebody may have done so", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, fileLimit+1))
	if err == nil && len(text) > fileLimit {
		err = fmt.Errorf("%s is larger than %d bytes", path, fileLimit)
	}
	return text, err
}

// create puts a whole file at path, or fails with fs.ErrExist. The last step
// is a link and not a rename, which would replace the file of somebody faster.
func create(path string, text []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	err = f.Chmod(0o600) // whatever the umask left
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
