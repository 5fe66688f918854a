package config_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/hostrole/hostrole/agent/config"
)

var update = flag.Bool("update", false, "rewrite the faults in testdata/*.txtar with what is reported now")

// complete adds what a case does not have and a config must, behind it, so
// that its lines keep their numbers. A case that says "# alone" stays alone.
func complete(text string) string {
	if strings.Contains(text, "# alone") {
		return text
	}
	for _, part := range []struct{ there, text string }{
		{`(?m)^\[?upstream`, "[upstream]\nregion = 'eu-central-1'\n"},
		{`(?m)^\[source\.corp`, "[source.corp]\nkind = 'web-identity'\nassertion = { file = 'token' }\n"},
		{`(?m)^(\[+role\b|role\.)`, "[role.app]\narn = 'arn:aws:iam::111122223333:role/app'\nfrom = 'source.corp'\n"},
		{`(?m)^\[*allow\b`, "[[allow]]\nuser = ['app']\nroles = ['app']\n"},
	} {
		if !regexp.MustCompile(part.there).MatchString(text) {
			text += part.text
		}
	}
	return text
}

// said is all that Parse says of a text, a line each.
func said(text string) (lines []string) {
	c, err := config.Parse("hostrole.toml", []byte(text))
	var faults config.Faults
	prefix := "# fault: "
	switch {
	case err == nil:
		faults, prefix = c.Warnings, "# warning: "
	case !errors.As(err, &faults):
		return []string{"no faults: " + err.Error()}
	}
	for _, f := range faults {
		lines = append(lines, prefix+strings.TrimPrefix(strings.TrimPrefix(f.String(), "hostrole.toml"), ":"))
	}
	return lines
}

var heading = regexp.MustCompile(`(?m)^-- (.+) --\n`)

// Each case of testdata/*.txtar is a file and, below it, all that is said of
// it: line, column, key, what is wrong and what would be right.
func TestFaults(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, path := range archives {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		now := data[:0:0]
		for i, c := range texts(string(data)) {
			if i == 0 {
				now = append(now, c.text...)
				continue
			}
			cases++
			var text, want []string
			for line := range strings.Lines(c.text) {
				switch {
				case strings.HasPrefix(line, "# fault: ") || strings.HasPrefix(line, "# warning: "):
					want = append(want, strings.TrimSuffix(line, "\n"))
				case line != "\n":
					text = append(text, line)
				}
			}
			got := said(complete(strings.Join(text, "")))
			now = fmt.Appendf(now, "-- %s --\n%s%s\n\n", c.name, strings.Join(text, ""), strings.Join(got, "\n"))
			switch diff := cmp.Diff(want, got); {
			case len(got) == 0:
				t.Errorf("%s: %s: nothing is said", path, c.name)
			case diff != "" && !*update:
				t.Errorf("%s: %s: -want +got, or run go test with -update:\n%s", path, c.name, diff)
			}
		}
		if now = append(bytes.TrimRight(now, "\n"), '\n'); *update && !bytes.Equal(now, data) {
			if err := os.WriteFile(path, now, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if cases < 80 {
		t.Errorf("only %d cases were found", cases)
	}
}

type named struct{ name, text string }

// texts splits an archive into its comment and its cases.
func texts(archive string) (all []named) {
	name, begin := "", 0
	for _, m := range heading.FindAllStringSubmatchIndex(archive, -1) {
		all = append(all, named{name, archive[begin:m[0]]})
		name, begin = archive[m[2]:m[3]], m[1]
	}
	return append(all, named{name, archive[begin:]})
}

// seeds are the files of all cases, and the packaged one.
func seeds(t testing.TB) (all []string) {
	t.Helper()
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range archives {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range texts(string(data))[1:] {
			all = append(all, c.text, complete(c.text))
		}
	}
	packaged, err := os.ReadFile(filepath.Join("..", "..", "packaging", "hostrole.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return append(all, string(packaged))
}

// unmarshal is the library's decoder.
func unmarshal(data []byte) error { return toml.Unmarshal(data, &map[string]any{}) }
