package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation"
)

// errNoNamespace matches a machine that gives no private network namespace.
var errNoNamespace = errors.New("this machine gives no private network namespace")

// errNoRights matches a private network namespace without any rights in it,
// which some security modules give; the program outside goes on without it.
var errNoRights = errors.New("no rights in the private network namespace")

// Documented example values of AWS; they open nothing.
const (
	demoAccount = "111122223333"
	demoKeyID   = "AKIAIOSFODNN7EXAMPLE"
	demoSecret  = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" // #nosec G101 -- see above
	demoRegion  = "eu-central-1"
	secretVar   = "HOSTROLE_DEMO_SECRET" // #nosec G101 -- a name
)

// Sessions of the tour are short, so that a renewal can be watched; those for
// a command are as long as in real life.
const (
	tourSession    = 20 * time.Second
	commandSession = time.Hour
)

func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo [-- COMMAND [ARG...]]",
		Short: "Show the whole thing in half a minute, or run a command in it",
		Long: `Demo starts an embedded STS and the daemon on the real 169.254.169.254, in a
private network namespace that ends with it, and shows a token, a role, its
credentials, a renewal, and an upstream that goes away and comes back. It needs
no root, no AWS account and no configuration, and leaves nothing.

With a command, it runs that in there instead, and ends with its exit status:

  hostrole demo -- aws sts get-caller-identity
  hostrole demo -- hostrole status`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && c.ArgsLenAtDash() != 0 {
				return fmt.Errorf("%w: put -- before the command: hostrole demo -- %s", errUsage, strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			d := &demo{argv: args, stdin: os.Stdin, stdout: c.OutOrStdout(), stderr: c.ErrOrStderr()}
			return d.run(c.Context())
		},
	}
}

// A demo is one run of the command.
type demo struct {
	argv           []string // empty: the tour
	stdin          io.Reader
	stdout, stderr io.Writer
	imds           netip.AddrPort // where the daemon serves
	sts            *devsts.Server
	stsURL         string
	renewals       chan rotation.Event
	admin          string // the operator's socket
}

func (d *demo) run(ctx context.Context) error {
	in, err := inside()
	switch {
	case in && err != nil:
		return fmt.Errorf("%w: %w", errNoRights, err)
	case !in:
		err := enterNamespace(ctx, d.stdin, d.stdout, d.stderr)
		if !errors.Is(err, errNoNamespace) {
			return err
		}
		_, _ = fmt.Fprintf(d.stderr, "hostrole demo: %v.\nTo see it on the real 169.254.169.254: %s.\nIt goes on with a port of 127.0.0.1 in its place.\n\n", err, namespaceHint())
		free, err := freePort(ctx)
		if err != nil {
			return err
		}
		d.imds = free
	default:
		d.imds = netip.MustParseAddrPort("169.254.169.254:80")
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	life := tourSession
	if len(d.argv) > 0 {
		life = commandSession
	}
	dir, err := os.MkdirTemp("", "hostrole-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d.admin = filepath.Join(dir, "admin.sock")
	stop, err := d.startSTS(ctx)
	if err != nil {
		return err
	}
	defer stop()
	ready, ended := make(chan struct{}), make(chan error, 1)
	a, err := d.daemon(life, ready)
	if err != nil {
		return err
	}
	go func() { ended <- a.Run(ctx) }()
	select {
	case <-ready:
	case err := <-ended:
		return err
	}
	if len(d.argv) > 0 {
		err = d.command(ctx)
	} else {
		err = d.tour(ctx)
	}
	cancel()
	return errors.Join(err, <-ended)
}

// freePort finds a port of the loopback address that nobody has.
func freePort(ctx context.Context) (netip.AddrPort, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

const (
	hubARN = "arn:aws:iam::" + demoAccount + ":role/demo-hub"
	appARN = "arn:aws:iam::" + demoAccount + ":role/demo-app"
)

// startSTS serves the embedded STS on the loopback address.
func (d *demo) startSTS(ctx context.Context) (stop func(), err error) {
	user := "arn:aws:iam::" + demoAccount + ":user/this-host"
	d.sts = devsts.New(devsts.Options{
		Account: demoAccount, Region: demoRegion, MinSession: time.Second, Now: agent.Now,
		Users: []devsts.User{{AccessKeyID: demoKeyID, SecretAccessKey: demoSecret, ARN: user}},
		Roles: []devsts.Role{
			{ARN: hubARN, Principals: []string{user}},
			{ARN: appARN, Principals: []string{hubARN}},
		},
	})
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.stsURL = "http://" + l.Addr().String()
	srv := &http.Server{Handler: d.sts, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	return func() { _ = srv.Close(); <-done }, nil
}

// configText is what an operator would write, but for the short sessions.
func (d *demo) configText(life time.Duration) string {
	listener := ""
	if d.imds.Addr().IsLoopback() {
		listener = fmt.Sprintf("\n[[listener]]\nname = \"host\"\nkind = \"imds\"\naddress = [%q]\ningress = \"\"\nmanage_address = false\n", d.imds)
	}
	return fmt.Sprintf(`version = 1

[upstream]
region   = %q
endpoint = %q

[admin]
socket = %q
group  = ""

[rotation]
splay = "0s"
%s
[source.keys]
kind              = "static"
access_key_id     = %q
secret_access_key = { env = %q }

[role.hub]
arn      = %q
from     = "source.keys"
duration = %q

[role.app]
arn      = %q
from     = "role.hub"
duration = %q

[[allow]]
name  = "you"
uid   = [%d]
roles = ["app"]
`, demoRegion, d.stsURL, d.admin, listener, demoKeyID, secretVar, hubARN, commandSession, appARN, life, os.Geteuid())
}

func (d *demo) daemon(life time.Duration, ready chan struct{}) (*agent.Agent, error) {
	cfg, err := config.Parse("demo.toml", []byte(d.configText(life)))
	if err != nil {
		return nil, err
	}
	d.renewals = make(chan rotation.Event, 64)
	return agent.New(cfg, agent.Options{
		Version: version, Revision: revision(),
		Log: slog.New(slog.DiscardHandler), Environ: append(os.Environ(), secretVar+"="+demoSecret), TrustUserNamespace: true,
		Ready: func() { close(ready) },
		Load:  func() (*config.Config, error) { return config.Parse("demo.toml", []byte(d.configText(life))) },
		Renewed: func(e rotation.Event) {
			if e.Name == "app" {
				select {
				case d.renewals <- e:
				default: // the tour reads them; a command does not
				}
			}
		},
	})
}

// own is the time that a program has to end by itself.
const own = time.Second

// end has a program end that was interrupted with us, or was not: a terminal's
// interrupt reaches it as it reaches us, and a second signal at once would
// cut short what it does at its end, such as giving the screen back.
func end(p *os.Process) error {
	tick := time.NewTicker(own / 50)
	defer tick.Stop()
	for range 50 {
		if err := p.Signal(syscall.Signal(0)); err != nil {
			return err
		}
		<-tick.C
	}
	return p.Signal(syscall.SIGTERM)
}

// command runs the operator's command where only the daemon can give it
// credentials: nothing of the user's own AWS set-up reaches it.
func (d *demo) command(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, d.argv[0], d.argv[1:]...) // #nosec G204 -- the operator's own words
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "AWS_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "AWS_REGION="+demoRegion, "AWS_DEFAULT_REGION="+demoRegion, "AWS_ENDPOINT_URL_STS="+d.stsURL,
		admin.SocketVar+"="+d.admin, "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	if d.imds.Addr().IsLoopback() {
		cmd.Env = append(cmd.Env, "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://"+d.imds.String())
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = d.stdin, d.stdout, d.stderr
	cmd.Cancel = func() error { return end(cmd.Process) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		var exited *exec.ExitError
		if errors.As(err, &exited) {
			return err
		}
		return fmt.Errorf("running %s: %w", d.argv[0], err)
	}
	return nil
}
