package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/cmd/hostrole/live"
)

// defaultConfig is where the packages put the config.
const defaultConfig = "/etc/hostrole/hostrole.toml"

// leastLife is how long a daemon that cannot serve is there at least: its unit
// starts the next one at once, so that a crash is over in a tenth of a second.
const leastLife = 500 * time.Millisecond

func configFlag(c *cobra.Command) *string {
	return c.Flags().StringP("config", "c", defaultConfig, "the configuration `file`; hostrole.d/*.toml beside it is read as well")
}

func runCommand(stderr io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use: "run", Short: "Run the daemon in the foreground", Args: noArgs,
		Long: `Run claims the metadata address, serves, and renews credentials until it is
told to end by SIGTERM or SIGINT; then it answers what is open and leaves the
host as it was. On SIGHUP it reads the configuration again; one with a fault
changes nothing. It needs CAP_NET_ADMIN for the address and CAP_NET_BIND_SERVICE
for port 80, and neither with manage_address = false and a loopback address.

Exit status: 78 when the configuration has faults, 1 when it cannot serve, as
where the address is somebody else's.`,
	}
	path := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(*path)
		if err != nil {
			return err // nobody starts it again before it is mended
		}
		lived := time.NewTimer(leastLife)
		defer lived.Stop()
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		defer signal.Stop(hup)
		a, err := agent.New(cfg, agent.Options{Log: agent.NewLogger(cfg.Log, stderr), Environ: os.Environ(),
			Version: version, Revision: revision(),
			Reload: hup, Files: func() []string { return config.Files(*path) }, Load: func() (*config.Config, error) { return config.Load(*path) }})
		if err == nil {
			err = a.Run(c.Context())
		}
		if err != nil && os.Getenv("NOTIFY_SOCKET") != "" {
			select {
			case <-lived.C:
			case <-c.Context().Done():
			}
		}
		return err
	}
	return c
}

func checkCommand(stdout io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use: "check", Short: "Check the configuration and say all that is wrong with it", Args: noArgs,
		Long: `Check reads the configuration and what it names, and says all that is wrong with
it, each with its place. With --live it then asks the upstream of each role for
one credential, a role after the one that it is assumed from, and says which
part fails and why. It starts nothing, needs no daemon, and keeps nothing. Secrets
that systemd loads for the service are those of the service, while it runs; before,
CREDENTIALS_DIRECTORY names the folder that has them.

Exit status: 78 when the configuration has faults; with --live 69 when an
upstream does not answer, and 1 when one refuses.`,
	}
	ask := c.Flags().Bool("live", false, "ask the upstream of each role as well")
	path := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(*path)
		if err != nil {
			return err
		}
		env := live.Environ()
		if _, err := agent.New(cfg, agent.Options{Log: agent.NewLogger(cfg.Log, io.Discard), Environ: env}); err != nil {
			return err
		}
		for _, w := range cfg.Warnings {
			_, _ = fmt.Fprintf(stdout, "warning: %v\n", w)
		}
		_, err = fmt.Fprintf(stdout, "%s: good: %d roles, %d sources, %d rules, %d listeners\n", *path, len(cfg.Roles), len(cfg.Sources), len(cfg.Allow), len(cfg.Listeners))
		if err == nil && *ask {
			err = live.Try(c.Context(), cfg, env, stdout)
		}
		return err
	}
	return c
}
