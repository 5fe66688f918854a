package process_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/command"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/process"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
)

const canary = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

func run(script string) process.Source {
	return process.Source{
		Command: command.Command{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Timeout: 10 * time.Second},
		Now:     func() time.Time { return time.Now().UTC() }, Boot: func() time.Duration { return time.Hour },
	}
}

// document prints JSON with a key id of its own each time.
func document(expires time.Time, token string) string {
	return fmt.Sprintf(`printf '{"Version": 1, "AccessKeyId": "ASIA%%s", "SecretAccessKey": "%s", "SessionToken": "%s", "Expiration": "%s", "AccountId": "111122223333"}' $(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')`,
		canary, token, expires.UTC().Format(time.RFC3339))
}

func TestContract(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject{New: func(_ *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		hour := time.Now().Add(time.Hour)
		script := map[sourcetest.Behaviour]string{
			sourcetest.Works:   document(hour, canary),
			sourcetest.Garbage: "echo " + canary + "; echo '<html>'",
			sourcetest.Blank:   strings.Replace(document(hour, canary), canary, "", 1),
			sourcetest.Expired: document(time.Now().Add(-time.Hour), canary),
			sourcetest.Silent:  "sleep 60",
			sourcetest.Huge:    "head -c 10000000 /dev/zero",
			sourcetest.Down:    "echo cannot log in >&2; exit 1",
		}[b]
		if script == "" {
			return nil, nil // a program has no way to say that it will never do it
		}
		return run(script), []string{canary}
	}})
}

func TestWhatIsOfNoUse(t *testing.T) {
	good := `{"Version": 1, "AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": "` + canary + `", "SessionToken": "t"}`
	if c, err := run("printf '" + good + "'").Fetch(t.Context()); err != nil || !c.Expires.IsZero() {
		t.Errorf("a document without Expiration: %v %v", c.Expires, err)
	}
	for name, doc := range map[string]string{
		"version as text": strings.Replace(good, ": 1", `: "1"`, 1),
		"version 2":       strings.Replace(good, ": 1", `: 2`, 1),
		"no version":      strings.Replace(good, `"Version": 1, `, "", 1),
		"bad time":        strings.Replace(good, `}`, `, "Expiration": "tomorrow"}`, 1),
		"two documents":   good + good,
	} {
		if _, err := run("printf '" + doc + "'").Fetch(t.Context()); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
