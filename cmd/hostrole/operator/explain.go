package operator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
	"github.com/hostrole/hostrole/cmd/hostrole/subject"
)

// cgroups is where the kernel shows which process is in which unit.
const cgroups = "/sys/fs/cgroup"

func explainCommand() *cobra.Command {
	var s subject.Subject
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
	c.Flags().IntVar(&s.PID, "pid", 0, "the process with that `id`")
	c.Flags().StringVar(&s.Unit, "unit", "", "a process of that systemd `unit`")
	c.Flags().StringVar(&s.User, "user", "", "the user of that `name`")
	c.Flags().Int64Var(&s.UID, "uid", -1, "the user with that `number`")
	c.Flags().StringVar(&s.Container, "container", "", "a process of the container with that `id`")
	offer := func(list func(fs.FS) []string) cobra.CompletionFunc {
		return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return list(os.DirFS(cgroups)), cobra.ShellCompDirectiveNoFileComp
		}
	}
	_ = c.RegisterFlagCompletionFunc("unit", offer(subject.Units))
	_ = c.RegisterFlagCompletionFunc("container", offer(subject.Containers))
	_ = c.RegisterFlagCompletionFunc("user", offer(func(fs.FS) []string { return subject.Users("/etc/passwd") }))
	c.RunE = func(c *cobra.Command, _ []string) error {
		uid, path, err := s.Find(os.DirFS(cgroups))
		if errors.Is(err, subject.ErrUnclear) {
			return fmt.Errorf("%w: %w", ErrUsage, err)
		}
		if err != nil {
			return err
		}
		e, err := client().Explain(c.Context(), uid, path)
		if err != nil {
			return told(err)
		}
		_, err = fmt.Fprint(c.OutOrStdout(), screen.Explanation(e))
		if state, serr := client().Status(c.Context()); err == nil && serr == nil && s.PID != 0 && subject.Elsewhere(s.PID, state.PID) {
			_, err = fmt.Fprintf(c.OutOrStdout(), "\n%s\n", screen.Wrapped(reach(state.Listeners), 0))
		}
		return err
	}
	return c
}

// reach says which listeners a process in a network of its own can ask.
func reach(all []admin.Endpoint) string {
	var devices []string
	for _, l := range all {
		if l.Ingress != "" && l.Ingress != "lo" {
			devices = append(devices, l.Name+" on "+l.Ingress)
		}
	}
	if len(devices) == 0 {
		return "It is in a network of its own, as containers are, and no listener serves one: it asks and nobody answers. Add a [[listener]] whose ingress is the bridge that it is on, such as docker0."
	}
	return "It is in a network of its own, as containers are: of the listeners it can ask " + strings.Join(devices, ", ") +
		" alone, if it is on that bridge. A token goes hop_limit hops: with another router between, as in a container within a container, 1 is too few and the answer never arrives."
}
