package agent

import (
	"io"
	"log/slog"
	"os"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/systemd"
)

// Keys of log attributes, the same in every line.
const (
	logRole       = "role"
	logListener   = "listener"
	logError      = "error"
	logCredential = "credential"
	logCaller     = "caller"
	logRule       = "rule"
)

// NewLogger makes the log that the config asks for. With the format auto it has
// fields in the journal, and is text on a terminal and JSON elsewhere.
func NewLogger(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // the config has checked it
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "text" || c.Format != "json" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	lines := slog.NewJSONHandler(w, opts)
	if c.Format != "json" && w == io.Writer(os.Stderr) && systemd.InJournal() {
		return slog.New(systemd.NewJournal(level, lines))
	}
	return slog.New(lines)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
