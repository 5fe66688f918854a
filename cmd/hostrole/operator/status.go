package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
)

// redrawEvery is how often --watch looks.
const redrawEvery = time.Second

func statusCommand() *cobra.Command {
	var watch, asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Show how the roles, listeners and callers fare", Args: noArgs,
		Long: `Status shows each role with the credential that is served, what is left of its
life, when it is renewed next, and why the newest attempt failed, if it did. What
is left is the outage headroom: for so long the upstream may be away before
anybody notices. Below stand the listeners, the addresses that the daemon keeps
on the host, clocks that are off, and the newest answers to callers.

It is for root, the daemon's own user, and the members of the group that [admin]
of the configuration names. The form of --json is stable: fields may come, and
none changes or goes. With --watch both are printed again each second, until
Ctrl-C; JSON then is one document a line.

Exit status: 69 without a daemon, 77 when you may not read this.`,
	}
	client := socket(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it anew each second, until Ctrl-C")
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := view{w: c.OutOrStdout(), json: asJSON, watch: watch}
		v.terminal, v.colour = screen.Terminal(v.w)
		if !watch {
			s, err := client().Status(c.Context())
			if err != nil {
				return told(err)
			}
			return v.show(s)
		}
		return v.follow(c.Context(), client())
	}
	return c
}

// A view shows a status, once or again and again.
type view struct {
	w                io.Writer
	json, watch      bool
	terminal, colour bool
}

func (v view) show(s admin.Status) error {
	if !v.json {
		_, err := io.WriteString(v.w, screen.Status(s, v.colour))
		return err
	}
	e := json.NewEncoder(v.w)
	if !v.watch {
		e.SetIndent("", "  ")
	}
	return e.Encode(s)
}

// follow shows the status each second, until ctx ends. A daemon that restarts
// is waited for; one that was never there is an error.
func (v view) follow(ctx context.Context, client *admin.Client) error {
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		s, err := client.Status(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how this ends
		case err != nil && (first || !errors.Is(err, admin.ErrNoDaemon)):
			return told(err)
		}
		v.clear()
		if err != nil {
			if !v.json {
				_, _ = fmt.Fprintf(v.w, "%s\n", screen.Printable(err.Error()))
			}
		} else if err := v.show(s); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// clear begins anew at the top of a terminal.
func (v view) clear() {
	if v.terminal && !v.json {
		_, _ = io.WriteString(v.w, "\x1b[H\x1b[2J")
	}
}
