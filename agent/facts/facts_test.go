package facts_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/agent/facts"
)

func TestFQDN(t *testing.T) {
	hosts := "127.0.0.1 localhost\n127.0.1.1 db-7.example.com db-7 # ours\n10.0.0.1 other.example.com\n\n10.0.0.2\n"
	for name, want := range map[string]string{
		"db-7": "db-7.example.com", "db-7.corp.example": "db-7.corp.example", "db-77": "db-77", "other": "other.example.com", "localhost": "localhost",
	} {
		if got := facts.FQDN(name, hosts); got != want {
			t.Errorf("FQDN(%q) = %q, want %q", name, got, want)
		}
	}
}

// The id is the one that systemd derives, so that an operator can compute it.
func TestMachineIDIsSystemds(t *testing.T) {
	// systemd-id128 machine-id --app-specific=6a1f0c52f7a84f3e9d0b3c5e7b1d9a24
	// on a machine whose id is the first.
	if got, want := facts.MachineID("0123456789abcdef0123456789abcdef\n", "h"), "b02bb7eba7134de3912904b432046082"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	raw, err := os.ReadFile("/etc/machine-id")
	tool, terr := exec.LookPath("systemd-id128")
	if err != nil || terr != nil || len(strings.TrimSpace(string(raw))) != 32 {
		t.Skip("no systemd-id128 and machine id here to compare with")
	}
	out, err := exec.CommandContext(t.Context(), tool, "machine-id", "--app-specific=6a1f0c52f7a84f3e9d0b3c5e7b1d9a24").Output()
	if err != nil {
		t.Skipf("systemd-id128: %v", err)
	}
	if got := facts.MachineID(string(raw), "h"); got != strings.TrimSpace(string(out)) {
		t.Errorf("got %s, systemd says %s", got, out)
	}
}

var nameForm = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

func TestSessionNameIsAlwaysAccepted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		if got := facts.SessionName(text); !nameForm.MatchString(got) {
			t.Fatalf("SessionName(%q) = %q", text, got)
		}
	})
	if got := facts.SessionName("db-7.backup"); got != "db-7.backup" {
		t.Errorf("a good name became %q", got)
	}
	long := strings.Repeat("x", 70)
	if a, b := facts.SessionName(long+"a"), facts.SessionName(long+"b"); a == b {
		t.Errorf("two long names became one: %q", a)
	}
}

func TestRender(t *testing.T) {
	if got, want := (facts.Host{Hostname: "h", FQDN: "h.example.com", MachineID: "0123"}).Render("{hostname}/{fqdn}/{machine_id}/{role}/{other}", "app"), "h/h.example.com/0123/app/{other}"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
