package audit_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/audit"
)

// logrotate finds the real one.
func logrotate(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"logrotate", "/usr/sbin/logrotate"} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	if os.Getenv("HOSTROLE_E2E") == "require" {
		t.Fatal("there is no logrotate; `make setup` installs it")
	}
	t.Skip("there is no logrotate")
	return ""
}

// everything is what a file and those that it was rotated to have, in lines.
func everything(t *testing.T, path string) (lines []string) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var from io.Reader = f
		if strings.HasSuffix(name, ".gz") {
			if from, err = gzip.NewReader(f); err != nil {
				t.Fatal(err)
			}
		}
		b, err := io.ReadAll(from)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(b); text != "" {
			lines = append(lines, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
		}
	}
	return lines
}

// The real logrotate rotates the file under a daemon that writes, by renaming
// it and by copying it. What is renamed has every record; what is copied lacks
// those that logrotate's manual says it does, and what is cut begins anew.
func TestLogrotate(t *testing.T) {
	program := logrotate(t)
	for name, c := range map[string]struct {
		directives string
		loses      bool // what is written between its copy and its cut, as its manual says
	}{
		"renamed": {"create 0600", false},
		"renamed, and the daemon makes the new one": {"nocreate", false},
		"renamed and compressed a rotation later":   {"create 0600\ndelaycompress\ncompress", false},
		"copied and cut": {"copytruncate", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, conf := filepath.Join(dir, "audit.json"), filepath.Join(dir, "rotate.conf")
			if err := os.WriteFile(conf, fmt.Appendf(nil, "%s {\nrotate 100\nmissingok\n%s\n}\n", path, c.directives), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := audit.Open(audit.Options{File: path, Required: true, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			written, stop, ended := 0, make(chan struct{}), make(chan error, 1)
			go func() {
				for {
					select {
					case <-stop:
						ended <- nil
						return
					default:
					}
					if err := l.Write(audit.Record{Time: time.Now(), Verdict: audit.Granted, UID: uid(1000), Rule: fmt.Sprint(written)}); err != nil {
						ended <- err
						return
					}
					written++
				}
			}()
			const rotations = 8
			for i := range rotations {
				out, err := exec.CommandContext(t.Context(), program, "-f", "-s", filepath.Join(dir, "state"), conf).CombinedOutput()
				if err != nil {
					t.Fatalf("rotation %d: %v\n%s", i, err, out)
				}
				if err := l.Reopen(); err != nil { // as a reload in postrotate does
					t.Fatal(err)
				}
			}
			close(stop)
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			seen, torn := map[string]bool{}, 0
			for _, line := range everything(t, path) {
				var r audit.Record
				switch err := json.Unmarshal([]byte(line), &r); {
				case err != nil && c.loses && !strings.Contains(line, "\x00"):
					torn++ // by the copy
				case err != nil:
					t.Fatalf("%.200q is no record: %v", line, err)
				case seen[r.Rule]:
					t.Errorf("record %s is there twice", r.Rule)
				default:
					seen[r.Rule] = true
				}
			}
			if rotated, _ := filepath.Glob(path + ".*"); len(rotated) != rotations {
				t.Errorf("%d files were rotated", len(rotated))
			}
			lost := written - len(seen)
			if lost > 0 && !c.loses || written < 100 || torn > rotations || !seen[fmt.Sprint(written-1)] {
				t.Errorf("%d of %d records are lost, and %d are torn", lost, written, torn)
			}
			t.Logf("%d records in %d rotations, %d lost, %d torn", written, rotations, lost, torn)
		})
	}
}
