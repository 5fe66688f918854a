package agent_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/agent/audit"
	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/imds/caller"
)

// records are those of an audit file.
func records(t *testing.T, path string) (all []audit.Record) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r audit.Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		all = append(all, r)
	}
	return all
}

// rehearsing puts rules that are tried before the one of startHost.
func rehearsing(text string) string {
	return strings.Replace(text, "[[allow]]", `[role.next]
arn = "arn:aws:iam::111122223333:role/next"
from = "source.keys"
[[allow]]
name = "try"
user = ["app"]
roles = ["next", "app"]
session = "caller"
audit_only = true
[[allow]]
name = "all"`, 1)
}

// A decision leaves one record, which says who asked, which rule decided, what
// left, and in which answer of STS that came; also what a rule would have
// decided that is only tried. Nobody is given anything by such a rule.
func TestAudit(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"file", "log"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "audit.json")
			extra := ""
			if where == "file" {
				extra = fmt.Sprintf("[audit]\nfile = %q\n", path)
			}
			h := startHost(t, time.Hour, devsts.Fault{}, extra)
			h.until(t, live, 10*time.Second)
			h.change(t, func(text string) string { return perCaller(rehearsing(text)) })
			who := caller.Caller{UID: caller.NewID(1000), User: "app", Groups: []string{"app", "adm"}, Cgroup: 4711, Inode: 815, Unit: "app.service"}
			if log := h.log.String(); strings.Contains(log, "was not reloaded") {
				t.Fatal(log)
			}
			h.session(t, who)
			if status, _ := h.as(t, who, "next"); status != 404 {
				t.Errorf("a rule that is only tried gives its role: %d", status)
			}
			if status, _ := h.as(t, service("app", ""), ""); status != 404 {
				t.Errorf("who cannot be named is told of a role: %d", status)
			}
			if status, _ := h.as(t, caller.Caller{}, ""); status != 404 {
				t.Errorf("who is unknown is told of a role: %d", status)
			}
			calls := h.sts.Calls()
			request := calls[slices.IndexFunc(calls, func(c devsts.Call) bool { return c.SessionName == "app.app.service" })].RequestID
			if where == "log" {
				log := h.log.String()
				for _, want := range []string{`"msg":"granted"`, `"request_id":"` + request + `"`, `"session":"app.app.service"`, `"rehearsed":"try would give next,app"`,
					`"unit":"app.service"`, `"groups":"app,adm"`, `"rule":"all"`, `"msg":"denied: no rule gives this caller a role"`, `"uid":null`} {
					if !strings.Contains(log, want) {
						t.Errorf("there is no %s in the log", want)
					}
				}
				return
			}
			all := records(t, path)
			at := slices.IndexFunc(all, func(r audit.Record) bool { return r.Session != "" && r.Verdict == audit.Granted })
			if at < 0 {
				t.Fatalf("there is no record of the grant in %+v", all)
			}
			got, uid := all[at], uint32(1000)
			if len(got.Credential) != 8 || time.Since(got.Time).Abs() > time.Minute {
				t.Errorf("the credential is %q at %v", got.Credential, got.Time)
			}
			got.Time, got.Credential = time.Time{}, ""
			if diff := cmp.Diff(audit.Record{
				Verdict: audit.Granted, Endpoint: "imds", Listener: "host", Remote: "127.0.0.1:40001", UID: &uid, User: "app", Groups: []string{"app", "adm"},
				Cgroup: 4711, Inode: 815, Unit: "app.service", Rule: "all", Rehearsed: []audit.Rehearsal{{Rule: "try", Roles: []string{"next", "app"}}},
				Role: "app", Session: "app.app.service", RequestID: request,
			}, got); diff != "" {
				t.Errorf("the grant is recorded: -want +got\n%s", diff)
			}
			last := all[len(all)-3:]
			for i, want := range []string{"the caller may not use this role", "named after the caller's unit, which is not known", "no rule gives this caller a role"} {
				if r := last[i]; r.Verdict != audit.Denied || !strings.Contains(r.Reason, want) || r.Credential != "" || (r.Rule == "all") != (i < 2) {
					t.Errorf("denial %d is recorded as %+v, want that %s", i, r, want)
				}
			}
		})
	}
}

// No record, no credential; and as soon as there is a place for records, both.
// A reload makes the file again that was renamed.
func TestAuditIsRequired(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "audit")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "audit.json")
	h := startHost(t, time.Hour, devsts.Fault{}, fmt.Sprintf("[audit]\nfile = %q\nrequired = true\n", path))
	h.until(t, live, 10*time.Second)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if status, body := h.as(t, service("app", "app.service"), "app"); status != 503 || strings.Contains(body, "SecretAccessKey") {
		t.Errorf("without a record: %d %s", status, body)
	}
	if log := h.log.String(); !strings.Contains(log, "a decision is not on record") {
		t.Error("the log does not say so")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if status, body := h.as(t, service("app", "app.service"), "app"); status != 200 || !strings.Contains(body, "SecretAccessKey") {
		t.Errorf("with a record again: %d %s", status, body)
	}
	before := len(records(t, path))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	h.signal <- syscall.SIGHUP
	h.signal <- syscall.SIGHUP
	if n := len(records(t, path)); n != 0 || before == 0 {
		t.Errorf("%d records in the new file, %d in the old one", n, before)
	}
}
