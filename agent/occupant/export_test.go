package occupant

import (
	"io/fs"
	"net/netip"
)

// KeepsFrom is that of a socket that listens on an address.
func KeepsFrom(listens string, only6 bool, a netip.Addr) bool {
	return socket{Occupant{Addr: netip.AddrPortFrom(netip.MustParseAddr(listens), 80)}, only6}.keepsFrom(a)
}

// WithInode gives o the number of its socket.
func WithInode(o Occupant, inode uint32) Occupant { o.inode = inode; return o }

// Find looks for the process of o.
func Find(proc fs.FS, o Occupant) Occupant {
	all := []Occupant{o}
	find(proc, all)
	return all[0]
}
