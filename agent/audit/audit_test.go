package audit_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/audit"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func open(t *testing.T, required bool) (l *audit.Log, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "audit.json")
	l, err := audit.Open(audit.Options{File: path, Required: required, Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

func uid(n uint32) *uint32 { return &n }

// read returns the records of a file, each of which must be whole.
func read(t *testing.T, path string) (records []audit.Record) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var r audit.Record
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatalf("%q: %v", s.Text(), err)
		}
		records = append(records, r)
	}
	return records
}

func TestARecordIsOneLineWhateverAClientSays(t *testing.T) {
	l, path := open(t, false)
	forged := "app\n{\"verdict\":\"granted\"}\r\n\u2028\x00\x1b[2J"
	if err := l.Write(audit.Record{Time: start, Verdict: audit.Denied, UID: uid(0), Role: forged, Reason: "no rule"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n != 1 || strings.ContainsAny(strings.TrimSuffix(string(b), "\n"), "\r\n\x00\x1b\u2028") {
		t.Errorf("the record is %q", b)
	}
	if got := read(t, path); len(got) != 1 || got[0].Role != forged || got[0].UID == nil || *got[0].UID != 0 {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(string(b), `"uid":0`) {
		t.Errorf("root is not told from nobody: %s", b)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestACallerCannotFloodTheFile(t *testing.T) {
	l, path := open(t, false)
	for range 1000 {
		if err := l.Write(audit.Record{Time: start, Verdict: audit.Denied, UID: uid(1000), Listener: "host"}); err != nil {
			t.Fatal(err)
		}
	}
	// Another caller is not made to pay for it.
	if err := l.Write(audit.Record{Time: start, Verdict: audit.Granted, UID: uid(1001), Listener: "host"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(audit.Record{Time: start.Add(time.Second), Verdict: audit.Denied, UID: uid(1000), Listener: "host"}); err != nil {
		t.Fatal(err)
	}
	got := read(t, path)
	if len(got) != 62 || *got[60].UID != 1001 || got[61].Dropped != 940 {
		t.Errorf("%d records, the last %+v: want 60, another caller's, and one that tells of 940", len(got), got[len(got)-1])
	}
}

func TestRequiredDropsNoGrant(t *testing.T) {
	l, path := open(t, true)
	for range 100 {
		for _, v := range []audit.Verdict{audit.Granted, audit.Denied} {
			if err := l.Write(audit.Record{Time: start, Verdict: v, UID: uid(1000)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	grants := 0
	for _, r := range read(t, path) {
		if r.Verdict == audit.Granted {
			grants++
		}
	}
	if grants != 100 {
		t.Errorf("%d of 100 grants are on record", grants)
	}
}

func TestARenamedFileIsFollowed(t *testing.T) {
	l, path := open(t, false)
	write := func(at time.Time, role string) {
		t.Helper()
		if err := l.Write(audit.Record{Time: at, Verdict: audit.Granted, Role: role}); err != nil {
			t.Fatal(err)
		}
	}
	write(start, "one")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(start.Add(500*time.Millisecond), "two") // not looked yet
	write(start.Add(time.Second), "three")
	if got := read(t, path+".1"); len(got) != 2 || got[1].Role != "two" {
		t.Errorf("the old file has %+v", got)
	}
	if got := read(t, path); len(got) != 1 || got[0].Role != "three" {
		t.Errorf("the new file has %+v", got)
	}
}

func TestFailuresAreTold(t *testing.T) {
	if _, err := audit.Open(audit.Options{File: t.TempDir(), Now: time.Now}); err == nil {
		t.Error("a folder is taken for a file")
	}
	if _, err := audit.Open(audit.Options{File: filepath.Join(t.TempDir(), "none", "audit"), Now: time.Now}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Open(audit.Options{File: fifo, Now: time.Now}); err == nil {
		t.Error("a pipe is taken for a file")
	}
	l, path := open(t, true)
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(audit.Record{Time: start.Add(time.Second), Verdict: audit.Granted}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a record that cannot be kept: %v", err)
	}
}

func TestConcurrentRecordsStayWhole(t *testing.T) {
	l, path := open(t, true)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				if err := l.Write(audit.Record{Time: start, Verdict: audit.Granted, UID: uid(uint32(i)), Role: fmt.Sprint(j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := read(t, path); len(got) != 1600 {
		t.Errorf("%d records, want 1600", len(got))
	}
}

func BenchmarkWrite(b *testing.B) {
	l, err := audit.Open(audit.Options{File: filepath.Join(b.TempDir(), "audit"), Required: true, Now: func() time.Time { return start }})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Write(audit.Record{Time: start, Verdict: audit.Granted, UID: uid(1000), User: "app", Listener: "host", Role: "app", Rule: "app"}); err != nil {
			b.Fatal(err)
		}
	}
}
