package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

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

// plain reports whether a text is of printable ASCII only.
func plain(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

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
	forged := "app\n{\"verdict\":\"granted\"}\r\n\u2028\x00\x1b[2J\u009b2J\u202e\x7f\U0001f511"
	if err := l.Write(audit.Record{Time: start, Verdict: audit.Denied, UID: uid(0), Role: forged, Reason: "no rule"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n != 1 || !plain(strings.TrimSuffix(string(b), "\n")) {
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

func TestALongNameIsCut(t *testing.T) {
	l, path := open(t, false)
	if err := l.Write(audit.Record{Time: start, Verdict: audit.Denied, Role: strings.Repeat("é", 10_000)}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); len(got) != 1 || len(got[0].Role) != 256 || !strings.HasPrefix(got[0].Role, "éé") {
		t.Errorf("got %d letters", len(got[0].Role))
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
	write(start, "two") // at once: the old one may be compressed by now
	if got := read(t, path+".1"); len(got) != 1 || got[0].Role != "one" {
		t.Errorf("the old file has %+v", got)
	}
	if got := read(t, path); len(got) != 1 || got[0].Role != "two" {
		t.Errorf("the new file has %+v", got)
	}
	// A reload makes the file without waiting for a record.
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); len(got) != 0 {
		t.Errorf("the newest file has %+v", got)
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

// What is dropped of a caller is told, also when the caller does not come back,
// and nobody's count is lost to those who are many.
func TestWhatIsDroppedIsTold(t *testing.T) {
	l, path := open(t, false)
	write := func(at time.Time, n uint32) {
		t.Helper()
		if err := l.Write(audit.Record{Time: at, Verdict: audit.Denied, UID: uid(n), User: "app", Unit: "app.service", Endpoint: "imds", Listener: "host", Role: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	write(start, 7)
	for range 100 {
		write(start, 1)
	}
	for n := range uint32(20_000) { // more than are remembered
		write(start, 100+n)
	}
	written := map[uint32]int{}
	count := func() (n int) {
		clear(written)
		for _, r := range read(t, path) {
			n += r.Dropped
			if r.Verdict == audit.Dropped {
				n--
				if r.User != "app" && r.User != "" || r.Role != "" {
					t.Errorf("what was dropped is told by %+v", r)
				}
			}
			n++
			written[*r.UID] += 1
		}
		return n
	}
	if n := l.Remembered(); n > 4097 {
		t.Errorf("%d callers are remembered", n)
	}
	write(start.Add(2*time.Minute), 7)
	all := 1 + 100 + 20_000 + 1
	if n := l.Remembered(); n > 3 { // who writes, who was told of, and all that share a place
		t.Errorf("%d callers are remembered who have their whole share again", n)
	}
	if got := count(); got != all || written[1] != 61 || len(written) < 4000 {
		t.Errorf("%d of %d records are written or told of, %d of the one who repeats", got, all, written[1])
	}
	// The end tells of the rest.
	for range 100 {
		write(start.Add(2*time.Minute), 2)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != all+100 {
		t.Errorf("%d of %d records are written or told of at the end", got, all+100)
	}
}

// A line that could not be written to its end is not continued.
func TestATornLineIsEnded(t *testing.T) {
	l, path := open(t, false)
	record := audit.Record{Time: start, Verdict: audit.Granted, Role: "one"}
	if err := l.Write(record); err != nil {
		t.Fatal(err)
	}
	l.Tear()
	record.Role = "two"
	if err := l.Write(record); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(string(b)), "\n"); len(lines) != 3 || lines[1] != "" {
		t.Errorf("the file is %q", b)
	}
}

// failing is a log that cannot be written to.
type failing struct{ slog.Handler }

func (failing) Handle(context.Context, slog.Record) error { return os.ErrClosed }

// Without a file the log has the records, whatever form it has.
func TestTheLogHasTheRecords(t *testing.T) {
	var b bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&b, nil), slog.NewTextHandler(&b, nil)} {
		b.Reset()
		l, err := audit.Open(audit.Options{Handler: h, Now: func() time.Time { return start }})
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := l.Write(audit.Record{Time: start, Verdict: audit.Denied, Reason: "no rule\n\u202e", UID: uid(0), Groups: []string{"a", "b\u202e"}, Role: "x\ny\u009b", Rule: "r",
				Labels: map[string]string{"k": "\u202e"}, Rehearsed: []audit.Rehearsal{{Rule: "new", Roles: []string{"app", "logs"}}}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != 21 || !plain(strings.Join(lines, "")) {
			t.Errorf("%d lines: %q", len(lines), lines)
		}
		for _, want := range []string{"denied: no rule", "uid", "r", "new would give app,logs", "a,b"} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("there is no %q in %s", want, lines[0])
			}
		}
		if !strings.Contains(lines[20], "30") || !strings.Contains(lines[20], "dropped") {
			t.Errorf("the end is %s", lines[20])
		}
	}
	l, err := audit.Open(audit.Options{Handler: failing{slog.DiscardHandler}, Required: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Write(audit.Record{Time: start, Verdict: audit.Granted}); err != nil {
		t.Errorf("a log that wants nothing: %v", err)
	}
	l, err = audit.Open(audit.Options{Handler: failing{slog.NewTextHandler(&b, nil)}, Required: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Write(audit.Record{Time: start, Verdict: audit.Granted}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a log that cannot be written to: %v", err)
	}
	if err := l.Reopen(); err != nil {
		t.Errorf("a log is opened again: %v", err)
	}
}

// Whatever is in a record, it is one line of printable ASCII, and reads back as
// what it was.
func FuzzRecord(f *testing.F) {
	f.Add("app", "app.service", "no rule", "k", "v")
	f.Add("a\nb", "\u2028", "\x1b[2J", "\xff\xfe", "\U0001f511\u202e")
	f.Add(`"},{"`, "\x7f\u0080", "\\u0041", "", "\ud7ff")
	f.Fuzz(func(t *testing.T, user, unit, reason, key, value string) {
		l, path := open(t, false)
		want := audit.Record{Time: start, Verdict: audit.Denied, Reason: reason, User: user, Unit: unit, Groups: []string{user, unit}, Labels: map[string]string{key: value}}
		if err := l.Write(want); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		line, one := strings.CutSuffix(string(b), "\n")
		if !one || !plain(line) {
			t.Fatalf("the record is %q", b)
		}
		var got audit.Record
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if valid := strings.ToValidUTF8(unit, ""); utf8.ValidString(user) && utf8.ValidString(unit) && (got.User != user || got.Unit != unit) || valid == unit && got.Unit != unit {
			t.Errorf("%q of %q reads back as %q of %q", user, unit, got.User, got.Unit)
		}
	})
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
