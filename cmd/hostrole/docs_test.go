package main_test

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	main "github.com/hostrole/hostrole/cmd/hostrole"
)

// documents are the texts in which people are told to run hostrole.
func documents(t *testing.T) (paths []string) {
	t.Helper()
	paths = []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "packaging/hostrole.toml"}
	for _, folder := range []string{"packaging/docs", "packaging/man", "packaging/prometheus", "systemd/units"} {
		err := fs.WalkDir(os.DirFS("../.."), folder, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && !slices.Contains([]string{".png", ".svg"}, filepath.Ext(path)) {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// A mention is a command line of hostrole in a text.
type mention struct {
	line  int
	words []string // behind "hostrole"
	whole bool     // it is to be typed as it stands: in a block
}

var (
	// program is hostrole where a shell or a unit takes it for the program to run.
	program = regexp.MustCompile(`(?:^|[|;(&]|-- |^Exec\w+=|\b(?:sudo|doas)(?: +-u +\w+)?(?: +[A-Z_]+=\S+)*) *(?:/usr/bin/|\./build/)?hostrole +([^|;)<>#]*)`)
	span    = regexp.MustCompile("`([^`]+)`")
	words   = regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
)

// mentions are those of a page: whole in blocks of commands and behind
// Exec…= of units, and within `…` as far as they go.
func mentions(text string) (found []mention) {
	within, joined, began, n := "", "", 0, 0
	add := func(line int, text string, whole bool) {
		for _, m := range program.FindAllStringSubmatch(text, -1) {
			found = append(found, mention{line, words.FindAllString(m[1], -1), whole})
		}
	}
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\n")
		if fence, is := strings.CutPrefix(line, "```"); is {
			within = fence
			continue
		}
		commands := strings.HasPrefix(within, "console") || within == "sh"
		switch typed, is := strings.CutPrefix(line, "$ "); {
		case joined != "" && commands, is, within == "sh", strings.HasPrefix(line, "Exec"):
			if joined == "" {
				began = n
			}
			joined += strings.TrimSuffix(typed, `\`)
			if !strings.HasSuffix(line, `\`) {
				add(began, joined, true)
				joined = ""
			}
		case within == "":
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				if strings.HasPrefix(m[1], "hostrole ") || strings.HasPrefix(m[1], "sudo hostrole ") {
					add(n, m[1], false)
				}
			}
		}
	}
	return found
}

// accepts is what the command line says to a mention; nil when it takes it.
func accepts(m mention) error {
	root := main.Command(io.Discard, io.Discard)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("completion")
	args := slices.Clone(m.words)
	for i, a := range args {
		args[i] = strings.Trim(a, `'"`)
	}
	if len(args) == 0 || strings.ToUpper(args[0]) == args[0] { // COMMAND
		return nil
	}
	c, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if c == root && !strings.HasPrefix(args[0], "-") {
		return fmt.Errorf("there is no command %q", args[0])
	}
	c.InitDefaultHelpFlag()
	if !m.whole {
		for _, a := range rest {
			for _, a := range strings.Split(strings.Trim(a, "(),"), "|") {
				name, _, _ := strings.Cut(a, "=")
				if long, is := strings.CutPrefix(name, "--"); is && long != "" && c.Flags().Lookup(long) == nil && c.InheritedFlags().Lookup(long) == nil {
					return fmt.Errorf("%s has no --%s", c.CommandPath(), long)
				}
			}
		}
		return nil
	}
	if c.Name() == "demo" { // what is behind -- is another program's
		if i := slices.Index(rest, "--"); i >= 0 {
			rest = rest[:i]
		}
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return err
	}
	return c.ValidateRequiredFlags()
}

// TestDocumentedCommands: each command line of hostrole in a document is one that
// the program takes.
func TestDocumentedCommands(t *testing.T) {
	used := map[string]int{}
	for _, path := range documents(t) {
		for _, m := range mentions(read(t, filepath.Join("../..", path))) {
			if err := accepts(m); err != nil {
				t.Errorf("%s:%d: hostrole %s: %v", path, m.line, strings.Join(m.words, " "), err)
			}
			if len(m.words) > 0 {
				used[m.words[0]]++
			}
		}
	}
	root := main.Command(io.Discard, io.Discard)
	for _, c := range root.Commands() {
		if !c.Hidden && used[c.Name()] == 0 {
			t.Errorf("no document speaks of hostrole %s", c.Name())
		}
	}
	t.Logf("%v", used)
}

// TestMentions keeps the test above honest.
func TestMentions(t *testing.T) {
	text := "See `hostrole status --watch`, or `hostrole_up`.\n```console\n$ sudo hostrole init --region x \\\n    --role y < secret\nhostrole says so\n$ a | ./build/hostrole demo -- b\n```\nExecStart=/usr/bin/hostrole run\n"
	want := []mention{
		{1, []string{"status", "--watch"}, false},
		{3, []string{"init", "--region", "x", "--role", "y"}, true},
		{6, []string{"demo", "--", "b"}, true},
		{8, []string{"run"}, true},
	}
	if diff := cmp.Diff(want, mentions(text), cmp.AllowUnexported(mention{})); diff != "" {
		t.Error(diff)
	}
	for line, good := range map[string]bool{
		"status --watch": true, "status --web": true, "status --wacth": false, "statsu": false, "explain --user alice": true, "explain --user": false,
		"revoke app": true, "revoke": false, "reload now": false, "wait --timeout 30s": true, "wait --timeout soon": false,
		"demo -- aws --region x": true, "document verify --certificate a b": true, "init --role a --role b": true, "completion bash": true,
	} {
		if err := accepts(mention{1, strings.Fields(line), true}); (err == nil) != good {
			t.Errorf("hostrole %s: %v", line, err)
		}
	}
	for line, good := range map[string]bool{"explain --user": true, "explain (--pid N | --unit U)": true, "explain --usr": false, "COMMAND --help": true, "refesh ROLE": false} {
		if err := accepts(mention{1, strings.Fields(line), false}); (err == nil) != good {
			t.Errorf("`hostrole %s`: %v", line, err)
		}
	}
}
