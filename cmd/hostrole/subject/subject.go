// Package subject finds the process or user that an operator means.
//
// # Why not
//
// Not the service manager, nor a container engine: the tree of cgroups is what
// the daemon goes by, and it needs neither a bus nor a socket of root's.
package subject

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/imds/caller/cgroup"
)

// ErrUnclear matches a subject that nobody, or more than one, could be.
var ErrUnclear = errors.New("who is meant is not clear")

// A Subject is who is to be explained: one of these.
type Subject struct {
	PID             int   // 0 for none; set by Find, where a process is found
	UID             int64 // -1 for none
	User            string
	Unit, Container string // a container by the beginning of its id
}

// Find is the uid of the subject and the path of its cgroup, "" for one that
// is none of a process.
func (s *Subject) Find(tree fs.FS) (uid uint32, path string, err error) {
	given := 0
	for _, is := range []bool{s.PID != 0, s.UID >= 0, s.User != "", s.Unit != "", s.Container != ""} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return 0, "", fmt.Errorf("%w: name one caller, with --pid, --unit, --user, --uid or --container", ErrUnclear)
	case s.User != "":
		u, err := user.Lookup(s.User)
		if err != nil {
			return 0, "", fmt.Errorf("the user database of this host has no user %q; ask with --uid for a number", s.User)
		}
		uid, err = number(u.Uid)
		return uid, "", err
	case s.Unit != "":
		s.PID, err = running(tree, func(f cgroup.Facts) bool { return f.Unit == s.Unit && f.Container == "" })
		if err != nil {
			return 0, "", fmt.Errorf("looking for the unit %s: %w; start it, or ask with --user for the user that it runs as", s.Unit, err)
		}
	case s.Container != "":
		s.PID, err = running(tree, func(f cgroup.Facts) bool { return strings.HasPrefix(f.Container, s.Container) })
		if err != nil {
			return 0, "", fmt.Errorf("looking for the container %s: %w", s.Container, err)
		}
	case s.PID == 0:
		uid, err = number(strconv.FormatInt(s.UID, 10))
		return uid, "", err
	}
	return process(s.PID)
}

// Elsewhere reports whether two processes are in different networks, as a
// container and this host are.
func Elsewhere(a, b int) bool {
	one, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", a))
	other, oerr := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", b))
	return err == nil && oerr == nil && one != other
}

func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: %s is no uid", ErrUnclear, text)
	}
	return uint32(n), nil // #nosec G115 -- 32 bits were asked for
}

// process is the uid that the sockets of a process get, its file system uid,
// and its cgroup.
func process(pid int) (uid uint32, path string, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, "", fmt.Errorf("there is no process %d here: %w", pid, err)
	}
	in, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // without it, there are no units
	for line := range strings.Lines(string(text)) {
		// real, effective, saved, file system
		if f := strings.Fields(line); len(f) == 5 && f[0] == "Uid:" {
			uid, err = number(f[4])
			return uid, admin.CgroupPath(string(in)), err
		}
	}
	return 0, "", fmt.Errorf("process %d does not tell its uid", pid)
}

// Units are the names of the units that have a process.
func Units(tree fs.FS) []string {
	return names(tree, func(f cgroup.Facts) string {
		if f.Container != "" {
			return ""
		}
		return f.Unit
	})
}

// Containers are the ids of the containers that have a process, in short.
func Containers(tree fs.FS) []string {
	return names(tree, func(f cgroup.Facts) string { return f.Container[:min(len(f.Container), 12)] })
}

func names(tree fs.FS, of func(cgroup.Facts) string) []string {
	seen := map[string]bool{}
	_ = fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && firstOf(tree, path) != 0 {
			seen[of(cgroup.Parse("/"+path))] = true
		}
		return nil // also after an error: cgroups come and go
	})
	delete(seen, "")
	return slices.Sorted(maps.Keys(seen))
}

// Users are the names in a file of the form of passwd(5).
func Users(path string) (all []string) {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if name, _, is := strings.Cut(line, ":"); is && name != "" {
			all = append(all, name)
		}
	}
	return all
}

// firstOf is a process of a cgroup; 0 when there is none.
func firstOf(tree fs.FS, path string) int {
	text, _ := fs.ReadFile(tree, path+"/cgroup.procs")
	first, _, _ := strings.Cut(string(text), "\n")
	n, _ := strconv.Atoi(first)
	return n
}

// running finds a process of a cgroup that is what is asked for, or below one.
func running(tree fs.FS, is func(cgroup.Facts) bool) (pid int, err error) {
	walk := func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && is(cgroup.Parse("/"+path)) {
			pid = firstOf(tree, path)
		}
		if pid != 0 {
			return fs.SkipAll
		}
		return nil // also after an error: cgroups come and go
	}
	if err := fs.WalkDir(tree, ".", walk); err != nil {
		return 0, err
	}
	if pid == 0 {
		return 0, errors.New("no process of it runs")
	}
	return pid, nil
}
