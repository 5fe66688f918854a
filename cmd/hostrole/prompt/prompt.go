// Package prompt asks a person on a terminal.
//
// # Why not
//
// Not a library of prompts, which draw and redraw: lines are read as a person
// can type them over any serial console. Not x/term for the one thing that it
// would do here: x/sys is at hand.
package prompt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hostrole/hostrole/cmd/hostrole/screen"
)

// A Prompt is one terminal with a person.
type Prompt struct {
	in    *os.File
	lines *bufio.Reader
	w     io.Writer
}

// New is nil where nobody can answer.
func New(in io.Reader, w io.Writer) *Prompt {
	f, ok := in.(*os.File)
	if !ok || !isTerminal(f) {
		return nil
	}
	return &Prompt{in: f, lines: bufio.NewReader(f), w: w}
}

// Say says something that wants no answer.
func (a *Prompt) Say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.w, "  %s\n", screen.Wrapped(fmt.Sprintf(format, args...), 2))
}

var errEnded = errors.New("the answers ended; nothing was written")

// Line asks for a line; Enter takes what is preset.
func (a *Prompt) Line(ctx context.Context, prompt, preset string) (string, error) {
	if preset != "" {
		prompt += " [" + screen.Printable(preset) + "]"
	}
	_, _ = fmt.Fprintf(a.w, "\n  %s: ", prompt)
	text, err := a.read(ctx)
	if err != nil {
		return "", err
	}
	if text = strings.TrimSpace(text); text == "" {
		text = preset
	}
	return text, nil
}

// Hidden asks for a line that the terminal does not show.
func (a *Prompt) Hidden(ctx context.Context, prompt string) (string, error) {
	_, _ = fmt.Fprintf(a.w, "\n  %s: ", prompt)
	shown, err := silence(a.in)
	if err != nil {
		return "", fmt.Errorf("keeping the secret from being shown: %w", err)
	}
	// Whatever ends the program ends it here first, and the terminal is as it was.
	text, err := a.read(ctx)
	shown()
	_, _ = fmt.Fprintln(a.w)
	return text, err
}

// Yes asks what is answered with yes or no; Enter is no.
func (a *Prompt) Yes(ctx context.Context, prompt string) (bool, error) {
	for {
		text, err := a.Line(ctx, prompt+" (yes or no)", "no")
		switch strings.ToLower(text) {
		case "y", "yes":
			return true, err
		case "n", "no", "":
			return false, err
		}
	}
}

// read reads a line, or ends with ctx: the terminal's own Ctrl-C is a signal,
// and a read would wait on.
func (a *Prompt) read(ctx context.Context) (string, error) {
	for a.lines.Buffered() == 0 && !readable(ctx, a.in) {
		if ctx.Err() != nil {
			_, _ = fmt.Fprintln(a.w)
			return "", errors.New("interrupted; nothing was written")
		}
	}
	text, err := a.lines.ReadString('\n')
	if err != nil {
		_, _ = fmt.Fprintln(a.w)
		return "", errEnded
	}
	return text, nil
}
