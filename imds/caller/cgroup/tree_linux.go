package cgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// treeLimit is how many cgroups there may be. Beyond it nobody is found.
	treeLimit = 1 << 17
	// ownerLimit is how many of those below one unit are looked at, nearest
	// first, and pathLimit how deep. Its owner may make as many as the kernel
	// lets him, at the expense of nobody else.
	ownerLimit = 1 << 12
	pathLimit  = 1 << 10 // bytes
)

// isTree returns an error unless root is where cgroup v2 is mounted, and its
// inodes are the ids that the kernel speaks of.
func isTree(root string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return err
	}
	if int64(fs.Type) != unix.CGROUP2_SUPER_MAGIC {
		return errors.New("this is no tree of cgroup v2")
	}
	inode, err := idOf(root)
	if err != nil {
		return err
	}
	// An id has 64 bits. Kernels of 32 show the lower half as the inode.
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, root, 0)
	if err == nil && handle.Size() == 8 && binary.NativeEndian.Uint64(handle.Bytes()) != inode {
		return errors.New("this kernel of 32 bits hides a half of the ids")
	}
	return nil
}

// idOf returns the id of the cgroup at path: the inode of its directory.
func idOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, fmt.Errorf("looking at %s: %w", path, err)
	}
	return st.Ino, nil
}

// A folder is a directory that is to be read.
type folder struct {
	path  string // without the root, "" for itself
	below *int   // cgroups below the same unit that are on the list; nil above all units
}

// walk returns all cgroups by id. It goes by levels, so that what the service
// manager has made comes before what others have made below.
func walk(root string) (map[uint64]place, error) {
	found := map[uint64]place{}
	buf := make([]byte, 32<<10)
	for list := []folder{{}}; len(list) > 0; list = list[1:] {
		at := list[0]
		facts, limit := Parse(at.path), treeLimit
		if at.below == nil && isOwned(at.path, facts) {
			at.below = new(int)
		}
		if at.below != nil {
			limit = ownerLimit - *at.below
		}
		id, names, err := readFolder(root+at.path, buf, limit)
		switch {
		case at.path != "" && passing(err):
			continue
		case err != nil:
			return nil, err
		case len(found) == treeLimit:
			return nil, fmt.Errorf("it has more than %d", treeLimit)
		}
		found[id] = place{root + at.path, facts}
		if at.below != nil {
			*at.below += len(names)
		}
		for _, name := range names {
			if path := at.path + "/" + name; len(path) <= pathLimit {
				list = append(list, folder{path, at.below})
			}
		}
	}
	return found, nil
}

// isOwned reports whether others than the service manager, or a container
// engine, may make cgroups below the one at path.
func isOwned(path string, f Facts) bool {
	top, first := strings.CutPrefix(path, "/")
	return f.Unit != "" || f.Container != "" ||
		first && !strings.Contains(top, "/") && !isUnit(top, ".slice") && owner("", top) != ""
}

// passing reports whether err concerns one directory, which has gone since it
// was seen, or whose owner has hidden it or laid it too deep to be named.
func passing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENAMETOOLONG)
}

// readFolder returns the id of a cgroup, and the names of those right below,
// of so many at most.
func readFolder(path string, buf []byte, limit int) (id uint64, names []string, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("opening %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, nil, fmt.Errorf("looking at %s: %w", path, err)
	}
	for len(names) < limit {
		n, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, nil, fmt.Errorf("reading %s: %w", path, err)
		}
		if n == 0 {
			break
		}
		names = appendFolders(names, buf[:n])
	}
	return st.Ino, names[:min(len(names), max(limit, 0))], nil
}

// appendFolders adds the names of the directories among entries, each of which
// is a struct linux_dirent64: inode, offset, length, type and name.
func appendFolders(names []string, entries []byte) []string {
	const typeAt, nameAt = 18, 19
	for len(entries) > nameAt {
		size := int(binary.NativeEndian.Uint16(entries[16:]))
		if size <= nameAt || size > len(entries) {
			break // the kernel writes no such thing
		}
		name, _, _ := bytes.Cut(entries[nameAt:size], []byte{0})
		if entries[typeAt] == unix.DT_DIR && string(name) != "." && string(name) != ".." {
			names = append(names, string(name))
		}
		entries = entries[size:]
	}
	return names
}
