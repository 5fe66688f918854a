package systemd

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
)

// fieldPrefix sets our fields of the journal apart from those of others.
const fieldPrefix = "HOSTROLE_"

// InJournal reports whether what this process writes to its standard error goes
// to the journal.
func InJournal() bool {
	is, err := journal.StderrIsJournalStream()
	return err == nil && is
}

// NewJournal returns a handler that writes records of level and above to the
// journal by its own protocol: the level is the priority, so that `journalctl
// -p warning` finds it, and each attribute a field, so that HOSTROLE_ROLE=app
// does. The message has them as well, for those who just read. What the journal
// does not take, fallback does.
func NewJournal(level slog.Leveler, fallback slog.Handler) slog.Handler {
	return newJournal(level, fallback, journal.Send)
}

type sender = func(message string, priority journal.Priority, fields map[string]string) error

// A writer makes the readable half of a message, one at a time.
type writer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

type journalHandler struct {
	level    slog.Leveler
	fallback slog.Handler
	send     sender
	writer   *writer
	readable slog.Handler // into writer's text
	prefix   string       // of the names in an open group
	fields   map[string]string
}

func newJournal(level slog.Leveler, fallback slog.Handler, s sender) slog.Handler {
	w := &writer{}
	// The journal has time, level and message of its own.
	drop := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}
	return &journalHandler{level: level, fallback: fallback, send: s, writer: w,
		readable: slog.NewTextHandler(&w.text, &slog.HandlerOptions{Level: level, ReplaceAttr: drop})}
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	fields := map[string]string{"SYSLOG_IDENTIFIER": "hostrole"}
	for name, value := range h.fields {
		fields[name] = value
	}
	r.Attrs(func(a slog.Attr) bool {
		collect(fields, h.prefix, a)
		return true
	})
	h.writer.mu.Lock()
	h.writer.text.Reset()
	err := h.readable.Handle(ctx, r)
	text := strings.TrimSpace(r.Message + " " + strings.TrimRight(h.writer.text.String(), "\n"))
	h.writer.mu.Unlock()
	if err == nil {
		err = h.send(text, priority(r.Level), fields)
	}
	if err != nil {
		return h.fallback.Handle(ctx, r)
	}
	return nil
}

func (h *journalHandler) WithAttrs(all []slog.Attr) slog.Handler {
	next := *h
	next.fallback, next.readable = h.fallback.WithAttrs(all), h.readable.WithAttrs(all)
	next.fields = map[string]string{}
	for name, value := range h.fields {
		next.fields[name] = value
	}
	for _, a := range all {
		collect(next.fields, h.prefix, a)
	}
	return &next
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.fallback, next.readable = h.fallback.WithGroup(name), h.readable.WithGroup(name)
	if name != "" {
		next.prefix += name + "_"
	}
	return &next
}

// collect adds an attribute to the fields; a group's with its name before them.
func collect(fields map[string]string, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		if a.Key != "" {
			fields[fieldName(prefix+a.Key)] = v.String()
		}
		return
	}
	if a.Key != "" {
		prefix += a.Key + "_"
	}
	for _, one := range v.Group() {
		collect(fields, prefix, one)
	}
}

// fieldName is a name as the journal takes it: up to 64 capitals, digits and
// underscores (systemd.journal-fields(7)).
func fieldName(key string) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, key)
	name = fieldPrefix + name
	return name[:min(len(name), 64)]
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
