// Command hostrole gives a Linux host what EC2 gives its instances: a role.
//
// # Why not
//
// Not a second binary for the commands: what talks to a daemon should be of
// the daemon's own version.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/cmd/hostrole/live"
	"github.com/hostrole/hostrole/cmd/hostrole/operator"
	"github.com/hostrole/hostrole/cmd/hostrole/setup"
)

// version and commit are set by the linker.
var version, commit = "dev", ""

// Exit codes; 69, 77 and 78 are those of sysexits(3).
const (
	exitFailed       = 1
	exitUsage        = 2
	exitUnavailable  = 69
	exitNotPermitted = 77
	exitConfig       = 78
)

// errUsage matches a command line that cannot be understood.
var errUsage = operator.ErrUsage

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// After the first signal the second one ends the program at once.
	context.AfterFunc(ctx, stop)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := command(stdout, stderr)
	c.SetArgs(args)
	cmd, err := c.ExecuteContextC(ctx)
	return report(stderr, cmd, err)
}

// command is the whole command line.
func command(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "hostrole",
		Short: "Gives any Linux host what EC2 gives its instances: a role",
		Long: `hostrole owns 169.254.169.254 on this host, speaks the EC2 instance metadata
protocol, gives each caller the credentials of the role that it may have, and
renews them long before they expire.`,
		SilenceUsage: true, SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: there is no command %q", errUsage, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(runCommand(stderr), checkCommand(stdout), demoCommand(), versionCommand(stdout))
	root.AddCommand(setup.Command())
	root.AddCommand(operator.Commands()...)
	return root
}

// report says what went wrong and what to do, and picks the exit code.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	var faults config.Faults
	var exited *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exited): // the program behind `demo --` has spoken for itself
		if s, ok := exited.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return 128 + int(s.Signal())
		}
		return exited.ExitCode()
	case errors.Is(err, errNoRights): // the copy outside says it to people
		return exitNoNamespace
	case errors.As(err, &faults):
		_, _ = fmt.Fprintln(w, err)
		return exitConfig
	case errors.Is(err, errUsage):
		_, _ = fmt.Fprintf(w, "hostrole: %v\nSee `%s --help`.\n", err, cmd.CommandPath())
		return exitUsage
	}
	_, _ = fmt.Fprintln(w, "hostrole:", err)
	switch {
	case errors.Is(err, os.ErrPermission):
		return exitNotPermitted
	case errors.Is(err, operator.ErrUnavailable), errors.Is(err, live.ErrAway):
		return exitUnavailable
	}
	return exitFailed
}

func versionCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		Long: `Version prints the version, the commit that the program was built from, the
version of Go that built it, and the system that it is for.`,
		RunE: func(*cobra.Command, []string) error {
			rev := revision()
			if rev != "" {
				rev = " (" + rev + ")"
			}
			_, err := fmt.Fprintf(stdout, "hostrole %s%s %s %s/%s\n", version, rev, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// revision is the commit that the program was built from: the linker's word,
// or that of the go command, or "".
func revision() string {
	rev := commit
	if info, ok := debug.ReadBuildInfo(); ok && rev == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				rev = s.Value
			}
		}
	}
	return rev[:min(12, len(rev))]
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %q is one word too many", errUsage, args[0])
	}
	return nil
}
