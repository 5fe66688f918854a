package cgroup

const (
	OwnerLimit = ownerLimit
	PathLimit  = pathLimit
)

// AppendFolders reads what the kernel says of a directory.
func AppendFolders(names []string, entries []byte) []string { return appendFolders(names, entries) }
