package estate

import "golang.org/x/sys/unix"

// volatile reports whether a directory is in memory.
func volatile(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return false
	}
	return int64(st.Type) == unix.TMPFS_MAGIC || int64(st.Type) == unix.RAMFS_MAGIC //nolint:unconvert // its type differs by architecture
}
