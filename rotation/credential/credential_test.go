package credential_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
)

const canary = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

func sample() credential.Credential {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return credential.Credential{AccessKeyID: "ASIAIOSFODNN7EXAMPLE", SecretKey: credential.NewSecret(canary), Token: credential.NewSecret(canary),
		Issued: now, Expires: now.Add(time.Hour), Received: 10 * time.Hour}
}

func TestNoPrinterShowsASecret(t *testing.T) {
	c := sample()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		fmt.Fprintf(&out, verb+"\n", c)
		fmt.Fprintf(&out, verb+"\n", c.SecretKey)
		fmt.Fprintf(&out, verb+"\n", &c)
		fmt.Fprintf(&out, verb+"\n", []any{c, struct{ inner credential.Secret }{c.SecretKey}})
	}
	_ = json.NewEncoder(&out).Encode(c)
	_ = json.NewEncoder(&out).Encode(map[string]any{"c": c, "s": c.SecretKey})
	for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(h).Info("x", "c", c, "s", c.SecretKey, "p", &c)
	}
	for form, text := range map[string]string{"plain": canary, "hex": fmt.Sprintf("%x", canary), "HEX": fmt.Sprintf("%X", canary)} {
		if strings.Contains(out.String(), text) {
			t.Errorf("a secret shows in its %s form", form)
		}
	}
	if c.SecretKey.Reveal() != canary {
		t.Error("Reveal does not return the text")
	}
}

func TestLiveAsksBothClocks(t *testing.T) {
	c := sample()
	for _, k := range []struct {
		name string
		wall time.Time
		boot time.Duration
		want bool
	}{
		{"both early", c.Issued.Add(time.Minute), c.Received + time.Minute, true},
		{"last moment", c.Expires.Add(-1), c.Received + time.Hour - 1, true},
		{"wall at the end", c.Expires, c.Received + time.Minute, false},
		{"boot at the end", c.Issued, c.Received + time.Hour, false},
		{"wall stepped back a year", c.Issued.AddDate(-1, 0, 0), c.Received + 2*time.Hour, false},
	} {
		if got := c.Live(k.wall, k.boot); got != k.want {
			t.Errorf("%s: Live = %v, want %v", k.name, got, k.want)
		}
	}
	endless := c
	endless.Expires = time.Time{}
	if !endless.Live(c.Issued.AddDate(10, 0, 0), 100_000*time.Hour) {
		t.Error("a credential without expiry is not live")
	}
	if (credential.Credential{}).Live(c.Issued, 0) {
		t.Error("the zero credential is live")
	}
}

func TestKeyTellsListsApart(t *testing.T) {
	same := credential.NewKey("a", "bc", "")
	if same != credential.NewKey("a", "bc", "") {
		t.Error("equal parts make different keys")
	}
	for _, parts := range [][]string{{"ab", "c", ""}, {"a", "bc"}, {"", "a", "bc"}, {"a", "b", "c"}, {"abc"}} {
		if credential.NewKey(parts...) == same {
			t.Errorf("%q makes the key of another list", parts)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := credential.Check(sample()); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*credential.Credential){
		"no id":     func(c *credential.Credential) { c.AccessKeyID = "" },
		"no secret": func(c *credential.Credential) { c.SecretKey = credential.Secret{} },
		"newline":   func(c *credential.Credential) { c.Token = credential.NewSecret("a\nb") },
		"quote":     func(c *credential.Credential) { c.SecretKey = credential.NewSecret(`a"b`) },
		"backslash": func(c *credential.Credential) { c.SecretKey = credential.NewSecret(`a\b`) },
		"not ASCII": func(c *credential.Credential) { c.AccessKeyID = "ÄSIA" },
		"endless":   func(c *credential.Credential) { c.Token = credential.NewSecret(strings.Repeat("x", 40_000)) },
		"past":      func(c *credential.Credential) { c.Expires = c.Issued },
		"no issue":  func(c *credential.Credential) { c.Issued = time.Time{} },
	} {
		c := sample()
		spoil(&c)
		if err := credential.Check(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestIDSaysNothing(t *testing.T) {
	id := sample().ID()
	if len(id) != 8 || strings.Contains(sample().AccessKeyID, id) {
		t.Errorf("ID() = %q", id)
	}
}
