// Package occupant is who has a port of this host: for the message of one who
// wanted it.
//
// # Why not
//
// Not ss or lsof: programs that a host may lack, and whose output is for people.
// Not the lists in /proc/net: the kernel's answer about the one port is shorter,
// and says the cgroup as well, which a process without rights can still turn
// into the name of a unit. Nothing is decided by what this package finds.
package occupant

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// An Occupant is a listening socket that keeps others from a port.
type Occupant struct {
	Addr    netip.AddrPort // that it listens on
	UID     uint32         // of who made it
	Cgroup  uint64         // v2 id of who made it; 0 is unknown
	PID     int            // the lowest that has it open; 0 when none can be seen from here
	Program string         // name of PID
	inode   uint32
}

// String names it as far as it is known.
func (o Occupant) String() string {
	who := fmt.Sprintf("a program of uid %d that cannot be seen from here,", o.UID)
	if o.PID != 0 {
		who = fmt.Sprintf("%s (pid %d, uid %d)", o.Program, o.PID, o.UID)
	}
	return fmt.Sprintf("%s on %v", who, o.Addr)
}

// Of returns who keeps a socket from listening at an address and port: those
// that listen there, or on all addresses. It looks at every process that this
// one may see, up to a limit.
func Of(at netip.AddrPort) ([]Occupant, error) {
	all, err := listening(at.Port())
	if err != nil {
		return nil, fmt.Errorf("asking the kernel who listens on port %d: %w", at.Port(), err)
	}
	all = slices.DeleteFunc(all, func(s socket) bool { return !s.keepsFrom(at.Addr()) })
	slices.SortFunc(all, func(a, b socket) int { return cmp.Compare(a.inode, b.inode) })
	var found []Occupant
	for _, s := range all {
		found = append(found, s.Occupant)
	}
	find(os.DirFS("/proc"), found)
	return found, nil
}

// A socket is one that listens.
type socket struct {
	Occupant
	only6 bool // not IPv4, on all addresses
}

// keepsFrom reports whether no other socket can listen at a on its port.
func (s socket) keepsFrom(a netip.Addr) bool {
	its := s.Addr.Addr()
	switch {
	case its == a:
		return true
	case !its.IsUnspecified():
		return false
	case its.Is4():
		return a.Is4()
	}
	return a.Is6() || !s.only6
}

// most bounds the open files that are looked at, of all processes together. A
// host with more is told nothing of processes.
const most = 1 << 18

// find looks for the processes that have the sockets open. What may not be seen
// is passed over.
func find(proc fs.FS, sockets []Occupant) {
	if len(sockets) == 0 {
		return
	}
	processes, err := fs.ReadDir(proc, ".")
	if err != nil {
		return
	}
	links, can := proc.(fs.ReadLinkFS)
	if !can {
		return
	}
	var pids []int
	for _, p := range processes {
		if pid, err := strconv.Atoi(p.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	left, missing := most, len(sockets)
	for _, pid := range pids {
		files, err := fs.ReadDir(proc, fmt.Sprintf("%d/fd", pid))
		if left -= len(files); errors.Is(err, fs.ErrPermission) || left < 0 || missing == 0 {
			continue
		}
		for _, f := range files {
			target, err := links.ReadLink(fmt.Sprintf("%d/fd/%s", pid, f.Name()))
			if err != nil || !strings.HasPrefix(target, "socket:[") {
				continue
			}
			for i := range sockets {
				if s := &sockets[i]; s.PID == 0 && target == fmt.Sprintf("socket:[%d]", s.inode) {
					s.PID, s.Program = pid, name(proc, pid)
					missing--
				}
			}
		}
	}
}

// name is what a process calls itself, made fit for a message.
func name(proc fs.FS, pid int) string {
	b, err := fs.ReadFile(proc, fmt.Sprintf("%d/comm", pid))
	if err != nil {
		return "a program"
	}
	quoted := strconv.QuoteToASCII(strings.TrimSpace(string(b)))
	return quoted[1 : len(quoted)-1]
}
