// Package command runs the one program that the operator named for a source
// or an assertion, with a limit on its time and on its output.
//
// # Why not
//
// Not a shell: the arguments are the operator's list, word by word, so that
// nothing is expanded. Not the daemon's own environment whole: a program that
// inherits NOTIFY_SOCKET can speak to systemd in our name, and one that asks
// the SDK's default chain would be sent back to us.
package command

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/hostrole/hostrole/rotation/upstream"
)

// outputLimit bounds what a program may print on either stream.
const outputLimit = 128 << 10

// A Command is a program with its arguments.
type Command struct {
	Argv    []string      // the program's absolute path first
	Env     []string      // as in os.Environ; [Environ] makes a safe one
	Timeout time.Duration // required
}

// Environ takes from env what belongs to the daemon alone, and tells SDKs in
// the program not to ask the metadata service, which we are.
func Environ(env []string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "FDSTORE", "AWS_EC2_METADATA_DISABLED":
		default:
			out = append(out, kv)
		}
	}
	return append(out, "AWS_EC2_METADATA_DISABLED=true")
}

// Output runs the program and returns what it printed. When it fails, the
// error has the end of what it said on its standard error, and nothing of its
// standard output, which may hold a secret.
func (c Command) Output(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var out, msg limited
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...) // #nosec G204 -- the operator's own list
	cmd.Env, cmd.Stdout, cmd.Stderr = c.Env, &out, &msg
	// A group of its own, so that its children end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case err == nil && out.over:
		return nil, fmt.Errorf("%s printed more than %d bytes", c.Argv[0], outputLimit)
	case err == nil:
		return out.kept, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%s did not end within %v", c.Argv[0], c.Timeout)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	text := msg.kept
	text = text[max(0, len(text)-200):]
	if said := upstream.Clean(string(text)); said != "" {
		return nil, fmt.Errorf("%s: %w: %s; run it by hand, as the daemon's user, to see more", c.Argv[0], err, said)
	}
	return nil, fmt.Errorf("%s: %w; run it by hand, as the daemon's user, to see more", c.Argv[0], err)
}

// limited keeps the first outputLimit bytes and takes the rest, so that a
// program that prints too much ends by itself.
type limited struct {
	kept []byte
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	room := outputLimit - len(l.kept)
	l.over = l.over || len(p) > room
	l.kept = append(l.kept, p[:min(len(p), room)]...)
	return len(p), nil
}
