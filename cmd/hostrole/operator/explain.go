package operator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
	"github.com/hostrole/hostrole/imds/caller/cgroup"
)

// A subject is who is to be explained.
type subject struct {
	pid             int
	uid             int64
	user            string
	unit, container string
}

func explainCommand() *cobra.Command {
	var s subject
	c := &cobra.Command{
		Use: "explain (--pid N | --unit U | --user U | --uid N | --container C)", Short: "Say which role a caller would be given, and why", Args: noArgs,
		Long: `Explain says what the rules of the running daemon give a process or a user: the
facts, the rule that decides, the role, and why the rules before it do not match.
Nothing is asked upstream, and no record is left.

Of a process, what counts is the uid under which it opens sockets, and the unit
and the container that it is in. A unit and a container, by its id or the
beginning of that, are explained by a process of theirs, so that one has to run.
A user is explained as outside of every unit. Facts that only a connection has
are in hostrole status, with the recent callers.`,
	}
	client := socket(c)
	c.Flags().IntVar(&s.pid, "pid", 0, "the process with that `id`")
	c.Flags().StringVar(&s.unit, "unit", "", "a process of that systemd `unit`")
	c.Flags().StringVar(&s.user, "user", "", "the user of that `name`")
	c.Flags().Int64Var(&s.uid, "uid", -1, "the user with that `number`")
	c.Flags().StringVar(&s.container, "container", "", "a process of the container with that `id`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		uid, path, err := s.find(os.DirFS("/sys/fs/cgroup"))
		if err != nil {
			return err
		}
		e, err := client().Explain(c.Context(), uid, path)
		if err != nil {
			return told(err)
		}
		_, err = fmt.Fprint(c.OutOrStdout(), screen.Explanation(e))
		return err
	}
	return c
}

// find is the uid of the subject and the path of its cgroup, "" for one that
// is none of a process.
func (s subject) find(tree fs.FS) (uid uint32, path string, err error) {
	given := 0
	for _, is := range []bool{s.pid != 0, s.uid >= 0, s.user != "", s.unit != "", s.container != ""} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return 0, "", fmt.Errorf("%w: name one caller, with --pid, --unit, --user, --uid or --container", ErrUsage)
	case s.user != "":
		u, err := user.Lookup(s.user)
		if err != nil {
			return 0, "", fmt.Errorf("the user database of this host has no user %q; ask with --uid for a number", s.user)
		}
		uid, err = number(u.Uid)
		return uid, "", err
	case s.unit != "":
		s.pid, err = running(tree, func(f cgroup.Facts) bool { return f.Unit == s.unit && f.Container == "" })
		if err != nil {
			return 0, "", fmt.Errorf("looking for the unit %s: %w; start it, or ask with --user for the user that it runs as", s.unit, err)
		}
	case s.container != "":
		s.pid, err = running(tree, func(f cgroup.Facts) bool { return strings.HasPrefix(f.Container, s.container) })
		if err != nil {
			return 0, "", fmt.Errorf("looking for the container %s: %w", s.container, err)
		}
	case s.pid == 0:
		uid, err = number(strconv.FormatInt(s.uid, 10))
		return uid, "", err
	}
	return process(s.pid)
}

func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: %s is no uid", ErrUsage, text)
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
