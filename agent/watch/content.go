package watch

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
)

// largest is how much of a file counts. Nothing that is watched is near it.
const largest = 4 << 20

// A content tells what a file holds from what it held. It never leaves the
// process: the file may hold a secret.
type content struct {
	state string // "" for what could be read, or why not
	sum   [sha256.Size]byte
}

// look takes the content of each path.
func look(paths []string) map[string]content {
	all := make(map[string]content, len(paths))
	for _, path := range paths {
		if _, seen := all[path]; !seen {
			all[path] = contentOf(path)
		}
	}
	return all
}

func contentOf(path string) content {
	// What is no file and no folder is not opened: a FIFO would wait for its
	// writer.
	switch info, err := os.Stat(path); {
	case err != nil:
		return failed(err)
	case info.IsDir():
		entries, err := os.ReadDir(path)
		if err != nil {
			return failed(err)
		}
		var names strings.Builder
		for _, e := range entries {
			names.WriteString(e.Name() + "\x00")
		}
		return content{"folder", sha256.Sum256([]byte(names.String()))}
	case !info.Mode().IsRegular():
		return content{state: info.Mode().Type().String()}
	}
	f, err := os.Open(path) // #nosec G304 -- the operator's path
	if err != nil {
		return failed(err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, largest)); err != nil {
		return failed(err)
	}
	return content{sum: [sha256.Size]byte(h.Sum(nil))}
}

// failed is the content of what cannot be read: a file that becomes readable has
// changed.
func failed(err error) content {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return content{state: err.Error()}
}
