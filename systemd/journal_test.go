package systemd_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/systemd"
)

// An entry is what the journal is sent.
type entry struct {
	Message  string
	Priority journal.Priority
	Fields   map[string]string
}

func TestJournal(t *testing.T) {
	var got []entry
	send := func(m string, p journal.Priority, f map[string]string) error {
		got = append(got, entry{m, p, f})
		return nil
	}
	log := slog.New(systemd.NewJournalTo(slog.LevelInfo, slog.DiscardHandler, send))
	log.Debug("not asked for")
	log.With("role", "app").WithGroup("call").With("took", 2*time.Second).Warn("renewal failed", "error", "no\nanswer", "next step", 3)
	log.Info("plain")
	log.Error("grouped", slog.Group("caller", "uid", 33), "äöü", "x", strings.Repeat("k", 99), "long")
	want := []entry{
		{`renewal failed role=app call.took=2s call.error="no\nanswer" "call.next step"=3`, journal.PriWarning, map[string]string{
			"SYSLOG_IDENTIFIER": "hostrole", "HOSTROLE_ROLE": "app", "HOSTROLE_CALL_TOOK": "2s", "HOSTROLE_CALL_ERROR": "no\nanswer", "HOSTROLE_CALL_NEXT_STEP": "3"}},
		{"plain", journal.PriInfo, map[string]string{"SYSLOG_IDENTIFIER": "hostrole"}},
		{"grouped caller.uid=33 äöü=x " + strings.Repeat("k", 99) + "=long", journal.PriErr, map[string]string{
			"SYSLOG_IDENTIFIER": "hostrole", "HOSTROLE_CALLER_UID": "33", "HOSTROLE____": "x", "HOSTROLE_" + strings.Repeat("K", 55): "long"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A journal that does not answer loses nothing.
func TestJournalThatIsAway(t *testing.T) {
	var out bytes.Buffer
	away := func(string, journal.Priority, map[string]string) error { return errors.New("no journal") }
	log := slog.New(systemd.NewJournalTo(slog.LevelInfo, slog.NewTextHandler(&out, nil), away))
	log.With("role", "app").Info("renewed", "next", "1h")
	if got := out.String(); !strings.Contains(got, "msg=renewed role=app next=1h") {
		t.Errorf("got %q", got)
	}
}
