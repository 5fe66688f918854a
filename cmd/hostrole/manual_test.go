package main_test

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	main "github.com/hostrole/hostrole/cmd/hostrole"
)

// The manual is made here, and not by the program, which has no need of it:
// its pages on commands of the command line, and that on the configuration of
// the packaged file and the tags of agent/config. The packages are made with
//
//	go test ./cmd/hostrole -run '^TestManual$' -args -manual FOLDER -dated 2026-01-02
var (
	manualDir = flag.String("manual", "", "write the manual's pages into this `folder`")
	dated     = flag.String("dated", "1970-01-01", "the `day` that stands below each page")
)

const sources = "../../packaging/man"

// roff writes plain text as troff wants it.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "…", "...").Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}

// prose writes paragraphs; lines that are indented stand as they are.
func prose(text string) string {
	var b strings.Builder
	for i, par := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		lines := strings.Split(par, "\n")
		if strings.HasPrefix(lines[0], "  ") {
			b.WriteString(".EX\n")
			for _, l := range lines {
				b.WriteString("  " + roff(l) + "\n")
			}
			b.WriteString(".EE\n")
			continue
		}
		for _, l := range sentences(strings.Join(lines, " ")) {
			b.WriteString(roff(l) + "\n")
		}
	}
	return b.String()
}

// sentences puts each into a line of its own, as troff wants it to space them.
func sentences(text string) []string {
	return strings.Split(regexp.MustCompile(`([a-z)][.:;?]) +([A-Z])`).ReplaceAllString(text, "$1\n$2"), "\n")
}

func bold(text string) string { return `\fB` + roff(text) + `\fR` }

func page(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func reference(name string, section int) string {
	return fmt.Sprintf("\\fB%s\\fR(%d)", roff(name), section)
}

// commands are all that have a page: what cobra adds by itself has its own
// words in --help, and stands below one that does.
func commands(root *cobra.Command) (all []*cobra.Command) {
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		all = append(all, c)
		if c.Name() != "completion" {
			all = append(all, commands(c)...)
		}
	}
	return all
}

func lower(text string) string { return strings.ToLower(text[:1]) + text[1:] }

// synopsis is how a command is written, with what stands for something else in
// italics: what is in capitals.
func synopsis(c *cobra.Command) string {
	text := c.UseLine()
	if c.Parent() != nil && c.HasAvailableSubCommands() {
		text = c.CommandPath() + " COMMAND"
	}
	path := c.CommandPath()
	rest := roff(strings.TrimPrefix(text, path))
	rest = regexp.MustCompile(`\b[A-Z]{2,}\b|\b[NUC]\b`).ReplaceAllString(rest, `\fI$0\fR`)
	rest = regexp.MustCompile(`\\-\\-[a-z]+`).ReplaceAllString(rest, `\fB$0\fR`)
	return bold(path) + strings.ReplaceAll(rest, "[flags]", `[\fIoption\fR...]`)
}

func options(c *cobra.Command) string {
	var b strings.Builder
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		name, usage := pflag.UnquoteUsage(f)
		name = strings.ReplaceAll(name, "stringArray", "value") // one that is not named
		b.WriteString(".TP\n")
		if f.Shorthand != "" {
			b.WriteString(bold("-"+f.Shorthand) + ", ")
		}
		b.WriteString(bold("--" + f.Name))
		if name != "" {
			b.WriteString(` \fI` + roff(name) + `\fR`)
		}
		if !slices.Contains([]string{"", "false", "0", "-1", "[]"}, f.DefValue) {
			usage += "; default " + f.DefValue
		}
		b.WriteString("\n" + roff(strings.ToUpper(usage[:1])+usage[1:]) + ".\n")
	})
	return b.String()
}

const exits = `.TP
.B 0
Done.
.TP
.B 1
Failed.
.TP
.B 2
The command line cannot be understood.
.TP
.B 69
The daemon, or an upstream, is not there.
.TP
.B 77
Not permitted.
.TP
.B 78
The configuration has faults.
`

func commandPage(c *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 @DATE@ hostrole \"User commands\"\n.nh\n.ad l\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(page(c))), roff(page(c)), roff(lower(c.Short)))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n%s\n.SH DESCRIPTION\n", synopsis(c))
	text, own := c.Long, ""
	if text == "" {
		text = c.Short + "."
	}
	if i := strings.Index(text, "Exit status: "); i >= 0 {
		own, text = text[i+len("Exit status: "):], text[:i]
	}
	b.WriteString(prose(text))
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			fmt.Fprintf(&b, ".TP\n%s\n%s.\n", bold(sub.CommandPath()), roff(strings.TrimSuffix(sub.Short, ".")))
		}
	}
	b.WriteString(".SH OPTIONS\n" + options(c))
	if own != "" {
		b.WriteString(".SH EXIT STATUS\n" + prose("0 when it is done; "+own+"\n\nThe others are those of hostrole(8)."))
	}
	b.WriteString(".SH SEE ALSO\n")
	see := []string{reference("hostrole", 8), reference("hostrole.toml", 5)}
	for _, other := range append([]*cobra.Command{c.Parent()}, c.Commands()...) {
		if other.HasParent() && c.Name() != "completion" {
			see = append(see, reference(page(other), 1))
		}
	}
	return b.String() + strings.Join(see, ",\n") + "\n"
}

// rootPage fills in the page that is written by hand.
func rootPage(t *testing.T, root *cobra.Command) string {
	t.Helper()
	var list, see strings.Builder
	for _, c := range commands(root) {
		fmt.Fprintf(&list, ".TP\n%s\n%s.\n", reference(page(c), 1), roff(c.Short))
		see.WriteString(",\n" + reference(page(c), 1))
	}
	return strings.NewReplacer("@COMMANDS@\n", list.String(), "@PAGES@", see.String(), "@EXITS@\n", exits).Replace(read(t, filepath.Join(sources, "hostrole.8")))
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// manual is all pages by the names of their files.
func manual(t *testing.T) map[string]string {
	t.Helper()
	root := main.Command(io.Discard, io.Discard)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("completion")
	keys, _ := describe(t)
	all := map[string]string{
		"hostrole.8":      rootPage(t, root),
		"hostrole.toml.5": strings.ReplaceAll(read(t, filepath.Join(sources, "hostrole.toml.5")), "@KEYS@\n", keys),
	}
	for _, c := range commands(root) {
		c.InitDefaultHelpFlag()
		all[page(c)+".1"] = commandPage(c)
	}
	for name, text := range all {
		all[name] = strings.ReplaceAll(text, "@DATE@", *dated)
	}
	return all
}

// Every command has its page, which says what --help does; troff and mandoc
// have nothing to say against any of them.
func TestManual(t *testing.T) {
	pages := manual(t)
	dir := t.TempDir()
	if *manualDir != "" {
		dir = *manualDir
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(pages[name]), 0o644); err != nil { // #nosec G306 -- a page for everybody
			t.Fatal(err)
		}
		if left := regexp.MustCompile(`@[A-Z]+@`).FindString(pages[name]); left != "" {
			t.Errorf("%s: %s is left", name, left)
		}
		lint(t, name, "mandoc", "-T", "lint", "-W", "warning", path)
		lint(t, name, "groff", "-man", "-T", "utf8", "-z", "-ww", path)
	}
}

// lint runs a program that has nothing to say when a page is good.
func lint(t *testing.T, page, program string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("HOSTROLE_E2E") == "require" {
			t.Errorf("missing: %s", program)
		}
		t.Logf("%s was not looked at, missing: %s", page, program)
		return
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s: %s: %v\n%s", page, program, err, out)
	}
}
