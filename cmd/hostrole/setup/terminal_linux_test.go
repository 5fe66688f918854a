package setup_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/cmd/hostrole/setup"
)

// A person sits at a terminal.
type person struct {
	t    *testing.T
	pty  *os.File
	mu   sync.Mutex
	seen bytes.Buffer // guarded by mu
	from int          // what was seen before is not looked at again
}

// sit runs the command on a terminal of its own.
func sit(t *testing.T, args ...string) (*person, <-chan error) {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, pty: master}
	reading, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(reading)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			p.mu.Lock()
			p.seen.Write(b[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	c := setup.Command()
	c.SetIn(tty)
	c.SetOut(tty)
	c.SetErr(tty)
	c.SetArgs(args)
	c.SilenceUsage, c.SilenceErrors = true, true
	go func() { ended <- c.ExecuteContext(t.Context()); _ = tty.Close() }()
	t.Cleanup(func() { _ = master.Close(); <-reading })
	return p, ended
}

// answers waits for a question and types.
func (p *person) answers(question, text string) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		p.mu.Lock()
		seen := p.seen.String()
		p.mu.Unlock()
		if i := strings.Index(seen[p.from:], question); i >= 0 && strings.HasSuffix(seen, ": ") {
			p.from += i + len(question)
			break
		}
		if time.Now().After(end) {
			p.t.Fatalf("nobody asks %q:\n%s", question, seen[p.from:])
		}
	}
	if _, err := p.pty.WriteString(text + "\n"); err != nil {
		p.t.Fatal(err)
	}
}

// sees waits for the last words, and returns all that was seen.
func (p *person) sees(words string) string {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		p.mu.Lock()
		seen := p.seen.String()
		p.mu.Unlock()
		if strings.Contains(seen, words) || time.Now().After(end) {
			return seen
		}
	}
}

// A first quarter of an hour, with the mistakes that people make.
func TestAtATerminal(t *testing.T) {
	url, _, _ := upstream(t)
	began := filepath.Join(t.TempDir(), "began")
	systemctl(t, `echo "$@" >>`+began)
	t.Setenv("SUDO_USER", "mara")
	t.Setenv("AWS_REGION", "eu-central-1")
	path, units := filepath.Join(t.TempDir(), "etc", "hostrole.toml"), t.TempDir()
	p, ended := sit(t, "--config", path, "--service-config", path, "--units", units)
	p.answers("Source [web-identity]", "keys")
	p.answers("is none of web-identity, saml", "static")
	p.answers("AWS region", "Frankfurt am Main")
	p.answers("That ", "") // that of the environment
	p.answers("URL of the STS", "http://sts.example.com")
	p.answers("That ", url)
	p.answers("Access key id", "")
	p.answers("An answer is needed", "AKIAIOSFODNN7EXAMPLE")
	p.answers("Secret access key", secret)
	p.answers("Which role do programs get?", roleARN)
	p.answers("Who may use it", "mara")
	p.answers("[user:mara]", "")
	p.answers("Start the service", "perhaps")
	p.answers("Start the service", "yes")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if seen := p.sees("Next: hostrole status"); strings.Contains(seen, secret) || !strings.Contains(seen, "app, from source.host: good: ") || !strings.Contains(seen, "The service runs.") {
		t.Errorf("the terminal shows\n%s", seen)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Upstream.Region != "eu-central-1" || cfg.Upstream.Endpoint != url || cfg.Allow[0].User[0] != "mara" {
		t.Errorf("it wrote %+v, %+v", cfg.Upstream, cfg.Allow)
	}
	if text, err := os.ReadFile(began); err != nil || string(text) != "daemon-reload\nenable --now hostrole.service\n" {
		t.Errorf("systemctl was called with %q, %v", text, err)
	}
	if left, err := os.ReadDir(filepath.Join(units, "hostrole.service.d")); err != nil || len(left) != 1 {
		t.Errorf("the unit has %v, %v", left, err)
	}
}

// Whoever stops in the middle of a secret has a terminal that shows again what
// is typed, and no file.
func TestInterruptedAtTheSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "hostrole.toml")
	p, ended := sit(t, "--config", path, "--source", "static", "--region", "eu-central-1", "--endpoint", "http://127.0.0.1:1", "--access-key-id", "AKIAIOSFODNN7EXAMPLE")
	p.answers("Secret access key", "")
	p.answers("An answer is needed", "\x04") // the end of the input
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("it ends with %v", err)
	}
	now, err := unix.IoctlGetTermios(int(p.pty.Fd()), unix.TCGETS)
	if err != nil || now.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal shows nothing any more: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("it wrote something")
	}
}

// What the package brought goes after a yes, and stays after a no.
func TestThePackagedConfiguration(t *testing.T) {
	for _, answer := range []string{"no", "yes"} {
		path, example := filepath.Join(t.TempDir(), "hostrole.toml"), filepath.Join(t.TempDir(), "example")
		for _, at := range []string{path, example} {
			if err := os.WriteFile(at, []byte("# CHANGE\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		p, ended := sit(t, "--config", path, "--packaged-config", example, "--offline", "--region", "eu-central-1", "--endpoint", "https://sts.example.com",
			"--source", "process", "--command", "/bin/true", "--role", "app", "--allow", "any")
		p.answers("is as the package brought it. Replace it?", answer)
		err := <-ended
		text, rerr := os.ReadFile(path)
		if rerr != nil || (err == nil) != (answer == "yes") || strings.Contains(string(text), "[role.app]") != (answer == "yes") {
			t.Errorf("after %q: %v, %v\n%s", answer, err, rerr, text)
		}
	}
}
