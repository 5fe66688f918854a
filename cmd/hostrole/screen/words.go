package screen

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
)

// width is that of a terminal nobody has widened.
const width = 80

// pad cuts or fills a text to n columns.
func pad(text string, n int) string {
	r := []rune(Printable(text))
	if len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return string(r) + strings.Repeat(" ", n-len(r))
}

// Printable takes out what could steer a terminal: strangers choose some of
// these texts.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return '?'
	}, text)
}

// Wrapped breaks a text into lines that fit behind an indent.
func Wrapped(text string, indent int) string {
	var b strings.Builder
	room := width - indent
	for i, word := range strings.Fields(Printable(text)) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case n+1 > room:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			room = width - indent
		default:
			b.WriteByte(' ')
			room--
		}
		b.WriteString(word)
		room -= n
	}
	return b.String()
}

// Span is a number of seconds in at most seven columns.
func Span(seconds float64) string {
	d := time.Duration(min(seconds, 1e9) * float64(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm %02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %02dm", int(d.Hours()), int(d.Minutes())%60)
	case d < 100*24*time.Hour:
		return fmt.Sprintf("%dd %02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// Terminal reports whether w is one, and whether it may have colours.
func Terminal(w io.Writer) (is, colour bool) {
	f, ok := w.(*os.File)
	if !ok {
		return false, false
	}
	st, err := f.Stat()
	is = err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	return is, is && os.Getenv("NO_COLOR") == ""
}
