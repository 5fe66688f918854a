package main_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

var update = flag.Bool("update", false, "write the pictures of the documentation")

const pictures = "../../packaging/docs/screenshots"

// scenes are the pictures, each of what a person typed.
var scenes = []struct {
	file, typed string
	argv        []string
	has         []string
	long        bool // takes half a minute, and is run for the picture alone
}{
	{"status.svg", "hostrole status", []string{"demo", "--", "sh", "-c", "hostrole wait --role app; hostrole credential-process >$HOME/out; hostrole credential-process --role demo-hub 2>$HOME/out; exec hostrole status"},
		[]string{"2 of 2 roles served", "NEXT RENEWAL", "█", "denied"}, false},
	{"explain.svg", "hostrole explain --user daemon", []string{"demo", "--", "hostrole", "explain", "--user", "daemon"}, []string{"because", "sees a host without a role"}, false},
	{"demo.svg", "hostrole demo", []string{"demo"}, []string{"a workload asks", "comes back", "0 without live credentials"}, true},
}

// What the commands show on a terminal can be drawn, has 80 columns, and is in
// the documentation.
func TestPictures(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.file, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(pictures, s.file)
			if !s.long || *update {
				picture := draw("$ "+s.typed, onTerminal(t, s.argv...))
				for _, text := range s.has {
					if !shows(picture, text) {
						t.Errorf("the picture has no %q:\n%s", text, picture)
					}
				}
				if *update && !t.Failed() {
					if err := os.WriteFile(path, []byte(picture), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			kept, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for d := xml.NewDecoder(strings.NewReader(string(kept))); ; {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			for _, text := range s.has {
				if !shows(string(kept), text) {
					t.Errorf("the picture that is kept has no %q: make screenshots draws it anew", text)
				}
			}
		})
	}
}

// shows reports whether a picture has a text.
func shows(picture, text string) bool {
	return strings.Contains(picture, html.EscapeString(strings.ReplaceAll(text, " ", "\u00a0")))
}

// onTerminal is what a command leaves on a terminal of 80 columns.
func onTerminal(t *testing.T, argv ...string) *terminal {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, "hostrole"), argv...)
	cmd.Env = []string{"PATH=" + binaries + string(os.PathListSeparator) + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TERM=xterm-256color", "LANG=C.UTF-8"}
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	out, err := io.ReadAll(f)
	if err != nil && !errors.Is(err, syscall.EIO) { // which is how a terminal ends
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	screen := &terminal{}
	screen.write(string(out))
	return screen
}

// A terminal is as much of one as the commands use: lines, colours, and going
// back to the beginning.
type terminal struct {
	lines [][]cell
	x, y  int
	style string
}

type cell struct {
	r     rune
	style string
}

var steering = regexp.MustCompile(`^\x1b\[([0-9;]*)([A-Za-z])`)

func (t *terminal) write(text string) {
	for text != "" {
		if m := steering.FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			switch m[2] {
			case "m":
				t.style = m[1]
			case "K":
				t.line()
				t.lines[t.y] = t.lines[t.y][:min(t.x, len(t.lines[t.y]))]
			case "A":
				n, _ := strconv.Atoi(m[1])
				t.y = max(0, t.y-max(n, 1))
			case "H":
				t.x, t.y = 0, 0
			case "J":
				t.lines = nil
			}
			continue
		}
		r := []rune(text[:min(4, len(text))])[0]
		text = text[len(string(r)):]
		switch r {
		case '\n':
			t.y++
		case '\r':
			t.x = 0
		default:
			if t.x == 80 {
				t.x, t.y = 0, t.y+1
			}
			t.line()
			for len(t.lines[t.y]) <= t.x {
				t.lines[t.y] = append(t.lines[t.y], cell{' ', ""})
			}
			t.lines[t.y][t.x] = cell{r, t.style}
			t.x++
		}
	}
}

func (t *terminal) line() {
	for len(t.lines) <= t.y {
		t.lines = append(t.lines, nil)
	}
}

const (
	cellWide, cellHigh = 8.4, 19.0
	margin             = 18.0
)

var colours = map[string]string{"": "#d6deeb", "0": "#d6deeb", "1": "#ffffff", "2": "#7f8ea3", "31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "36": "#79c0ff"}

// draw makes a picture of a terminal, as SVG. Every run of letters has its
// width, so that it is the same with every font.
func draw(prompt string, t *terminal) string {
	first := make([]cell, 0, len(prompt))
	for _, r := range prompt {
		first = append(first, cell{r, "1"})
	}
	lines := append([][]cell{first}, t.lines...)
	var b strings.Builder
	w, h := 80*cellWide+2*margin, float64(len(lines))*cellHigh+2*margin+22
	_, _ = fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" role="img" aria-label="A terminal: %s">`+"\n", w, h, w, html.EscapeString(prompt))
	_, _ = fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" rx="10" fill="#0f1620"/><g fill="#39465a"><circle cx="20" cy="18" r="5.5"/><circle cx="38" cy="18" r="5.5"/><circle cx="56" cy="18" r="5.5"/></g>`+"\n", w, h)
	b.WriteString(`<g font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14">` + "\n")
	for y, l := range lines {
		for from := 0; from < len(l); {
			to := from + 1
			for to < len(l) && l[to].style == l[from].style {
				to++
			}
			var text strings.Builder
			for _, c := range l[from:to] {
				if c.r == ' ' {
					c.r = '\u00a0' // which nothing takes out
				}
				text.WriteRune(c.r)
			}
			if strings.Trim(text.String(), "\u00a0") != "" {
				weight := ""
				if l[from].style == "1" {
					weight = ` font-weight="bold"`
				}
				_, _ = fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" fill="%s"%s textLength="%.1f" lengthAdjust="spacingAndGlyphs">%s</text>`+"\n",
					margin+float64(from)*cellWide, margin+22+float64(y)*cellHigh+14, colours[l[from].style], weight, float64(to-from)*cellWide, html.EscapeString(text.String()))
			}
			from = to
		}
	}
	b.WriteString("</g></svg>\n")
	return b.String()
}
