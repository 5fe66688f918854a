package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/cmd/hostrole/page"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
)

// redrawEvery is how often --watch looks.
const redrawEvery = time.Second

func statusCommand() *cobra.Command {
	var watch, asJSON, web bool
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
Ctrl-C; JSON then is one document a line. With --web it is a page for a browser,
with a time line, on an address of this host that works once, for whoever it is
printed for; it ends with Ctrl-C, or ten minutes after the last look.

Exit status: 69 without a daemon, 77 when you may not read this.`,
	}
	client := socket(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it anew each second, until Ctrl-C")
	c.Flags().BoolVar(&web, "web", false, "serve it as a page on 127.0.0.1, while somebody looks")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if web {
			if watch || asJSON {
				return fmt.Errorf("%w: --web is a page of its own; take out --watch and --json", ErrUsage)
			}
			return told(browse(c.Context(), client(), c.OutOrStdout()))
		}
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

// browse serves a status that can be read for a browser.
func browse(ctx context.Context, client *admin.Client, w io.Writer) error {
	if _, err := client.Status(ctx); err != nil {
		return err
	}
	host, _ := os.Hostname()
	return page.Open(ctx, page.Options{Status: client.Status, History: client.History, Host: host, Idle: 10 * time.Minute}, func(at netip.AddrPort, path string) {
		_, _ = fmt.Fprintf(w, "http://%v%s\nIt works once, in the browser that opens it. Ctrl-C ends it.\n", at, path)
		if os.Getenv("SSH_CONNECTION") != "" {
			_, _ = fmt.Fprintf(w, "From where you are: ssh -NL %d:%v %s\n", at.Port(), at, host)
		}
	})
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
func (v view) follow(ctx context.Context, client *admin.Client) (err error) {
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	frame := screen.NewFrame(v.w)
	defer func() { err = errors.Join(err, frame.Close()) }()
	for first := true; ; first = false {
		s, err := client.Status(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how this ends
		case err != nil && (first || !errors.Is(err, admin.ErrNoDaemon)):
			return told(err)
		}
		text := screen.Status(s, v.colour)
		if err != nil {
			text = screen.Wrapped(err.Error(), 0) + "\n"
		}
		switch {
		case v.json && err != nil: // a program waits as well
		case v.json:
			err = v.show(s)
		case v.terminal:
			err = frame.Show(text)
		default:
			_, err = io.WriteString(v.w, text)
		}
		if err != nil && !errors.Is(err, admin.ErrNoDaemon) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
