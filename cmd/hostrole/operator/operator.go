// Package operator is the commands for whoever runs a daemon: they ask it
// through its socket, or do without one.
//
// # Why not
//
// Not in the binary's own package, which would be too long to read. Not a
// client of its own for each command: agent/admin has the one. Not a flag on
// the root for the socket: most of the program has none.
package operator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
)

var (
	// ErrUsage matches a command line that cannot be understood.
	ErrUsage = errors.New("usage")
	// ErrUnavailable matches a daemon or an upstream that is not there.
	ErrUnavailable = errors.New("not available")
)

// Commands returns them all.
func Commands() []*cobra.Command {
	return []*cobra.Command{statusCommand(), explainCommand(), waitCommand(), refreshCommand(), reloadCommand(), revokeCommand(),
		processCommand(), documentCommand(), importCommand()}
}

// socket adds the flag of those that ask a daemon, and returns how to.
func socket(c *cobra.Command) func() *admin.Client {
	path := c.Flags().String("socket", "", "the daemon's `socket`; default $"+admin.SocketVar+", or else "+admin.DefaultSocket)
	return func() *admin.Client {
		switch named := os.Getenv(admin.SocketVar); {
		case *path != "":
			return admin.NewClient(*path)
		case named != "":
			return admin.NewClient(named)
		}
		return admin.NewClient(admin.DefaultSocket)
	}
}

// told gives a failure the kind that the exit code is made of.
func told(err error) error {
	if errors.Is(err, admin.ErrNoDaemon) || errors.Is(err, admin.ErrNotReady) {
		return &unavailable{err}
	}
	return err
}

type unavailable struct{ error }

func (e *unavailable) Unwrap() []error { return []error{ErrUnavailable, e.error} }

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %q is one word too many", ErrUsage, args[0])
	}
	return nil
}

// atMost takes up to so many words, called what.
func atMost(n, least int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) > n:
			return fmt.Errorf("%w: %q is one word too many", ErrUsage, args[n])
		case len(args) < least:
			return fmt.Errorf("%w: name the %s", ErrUsage, what)
		}
		return nil
	}
}

// complete offers the names of the daemon's roles.
func complete(client func() *admin.Client) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), time.Second)
		defer cancel()
		s, err := client().Status(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, r := range s.Roles {
			names = append(names, cobra.CompletionWithDesc(r.Name, r.ARN))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func roleFlag(c *cobra.Command, client func() *admin.Client, usage string) *string {
	role := c.Flags().String("role", "", usage)
	_ = c.RegisterFlagCompletionFunc("role", func(c *cobra.Command, _ []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return complete(client)(c, nil, start)
	})
	return role
}

func refreshCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "refresh [ROLE]", Short: "Renew a role now, or all of them", Args: atMost(1, 0, ""),
		Long: `Refresh asks the upstream for a new credential of the role now, whatever the
schedule and the wait after a failure say, and tells what came of it; without
ROLE, of every role, one after the other. A failure costs nothing: the live
credential is served on. It needs root, or the daemon's own user.

Exit status: 69 when an upstream does not answer, 1 when one refuses, 77 when
you may not do this.`,
	}
	client := socket(c)
	c.ValidArgsFunction = complete(client)
	c.RunE = func(c *cobra.Command, args []string) error {
		names := args
		if len(args) == 0 {
			s, err := client().Status(c.Context())
			if err != nil {
				return told(err)
			}
			for _, r := range s.Roles {
				if r.State != admin.Revoked {
					names = append(names, r.Name)
				}
			}
		}
		var first error
		onTerminal, _ := screen.Terminal(c.ErrOrStderr())
		for _, name := range names {
			if onTerminal {
				_, _ = fmt.Fprintf(c.ErrOrStderr(), "%s: asking …", name)
			}
			done, err := client().Refresh(c.Context(), name)
			if onTerminal {
				_, _ = fmt.Fprint(c.ErrOrStderr(), "\r\x1b[K")
			}
			if err != nil {
				if len(names) == 1 {
					return told(fmt.Errorf("renewing %s: %w", name, err))
				}
				if errors.Is(err, admin.ErrDenied) || errors.Is(err, admin.ErrNoDaemon) || c.Context().Err() != nil {
					return told(err) // the next would say the same
				}
				_, _ = fmt.Fprintf(c.ErrOrStderr(), "%s: %s\n", name, screen.Printable(err.Error()))
				if first == nil {
					first = fmt.Errorf("not all roles were renewed: %w", err)
				}
				continue
			}
			life := "which never expires"
			if done.Role.Left != nil {
				life = "good for " + screen.Span(*done.Role.Left)
			}
			_, _ = fmt.Fprintf(c.OutOrStdout(), "%s: renewed, %s, %s\n", done.Role.Name, done.Role.Credential, life)
		}
		return told(first)
	}
	return c
}

func reloadCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "reload", Short: "Have the daemon read its configuration again", Args: noArgs,
		Long: `Reload has the daemon read its configuration again, as SIGHUP and systemctl
reload do, and tells what is wrong with it. A configuration with a fault changes
nothing: the old one serves. What was revoked is served again. It needs root, or
the daemon's own user.

Exit status: 78 when the configuration has faults, 77 when you may not do this,
69 without a daemon.`,
	}
	client := socket(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		done, err := client().Reload(c.Context())
		if err != nil {
			return told(err)
		}
		if len(done.Faults) > 0 {
			var faults config.Faults
			for _, f := range done.Faults {
				faults = append(faults, config.Fault(f))
			}
			_, _ = fmt.Fprintln(c.ErrOrStderr(), done.Summary)
			return faults
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "reloaded: %s\n", done.Summary)
		return err
	}
	return c
}

func processCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "credential-process", Short: "Print a role's credentials for a program that asks credential_process", Args: noArgs,
		Long: `Credential-process prints the JSON that AWS SDKs expect of a credential_process,
for the role that the rules of the configuration give you, or for another one of
yours with --role. The daemon decides by your uid, by the same rules as for the
metadata address. In the AWS configuration of a program:

  credential_process = hostrole credential-process

Exit status: 77 when no rule gives you that role, 69 without a daemon or while
the role has no live credential, 1 when the upstream refuses the role.`,
	}
	client := socket(c)
	role := roleFlag(c, client, "the `role`, by its name on the wire or in the configuration; default your own")
	c.RunE = func(c *cobra.Command, _ []string) error {
		text, err := client().Process(c.Context(), *role)
		if err != nil {
			return told(err)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", text)
		return err
	}
	return c
}
