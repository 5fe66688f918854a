package screen

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// A Frame shows one text after the other in the same place of a terminal. What
// does not fit is cut, so that a window that is made smaller stays in order,
// and what was on the terminal before comes back at the end.
type Frame struct {
	w    io.Writer
	last string
	on   bool
}

// NewFrame returns a Frame on a terminal. It writes nothing yet.
func NewFrame(w io.Writer) *Frame { return &Frame{w: w} }

const (
	takeOver = "\x1b[?1049h\x1b[?25l" // another screen, without a cursor
	giveBack = "\x1b[?25h\x1b[?1049l"
	home     = "\x1b[H"
	restLine = "\x1b[K"
	restAll  = "\x1b[J"
)

// Show shows a text in place of the one before.
func (f *Frame) Show(text string) error {
	start := ""
	if !f.on {
		f.on, start = true, takeOver
	}
	f.last = text
	wide, high := size(f.w)
	_, err := io.WriteString(f.w, start+home+strings.ReplaceAll(Fit(text, wide, high), "\n", restLine+"\n")+restLine+restAll)
	return err
}

// Close leaves the newest text on the terminal that was there before.
func (f *Frame) Close() error {
	if !f.on {
		return nil
	}
	f.on = false
	_, err := io.WriteString(f.w, giveBack+f.last)
	return err
}

func size(w io.Writer) (wide, high int) {
	if f, ok := w.(*os.File); ok {
		if wide, high = terminalSize(f); wide > 0 && high > 0 {
			return wide, high
		}
	}
	return width, 24
}

// Fit cuts a text to so many columns and lines, and says how much is left out.
// Colours take no room.
func Fit(text string, wide, high int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if more := len(lines) - high; more > 0 {
		lines = append(lines[:max(0, high-1)], fmt.Sprintf("… and %d lines more: make the window higher", more+1))
	}
	for i, line := range lines {
		lines[i] = fitLine(line, wide)
	}
	return strings.Join(lines, "\n")
}

func fitLine(line string, wide int) string {
	var b strings.Builder
	column, colour := 0, false
	for i := 0; i < len(line); {
		if strings.HasPrefix(line[i:], "\x1b[") {
			if end := strings.IndexByte(line[i:], 'm'); end > 0 {
				code := line[i : i+end+1]
				b.WriteString(code)
				colour = code != plain
				i += end + 1
				continue
			}
		}
		r := []rune(line[i:min(i+4, len(line))])[0]
		if column++; column > wide {
			break
		}
		b.WriteRune(r)
		i += len(string(r))
	}
	if colour {
		b.WriteString(plain)
	}
	return b.String()
}
