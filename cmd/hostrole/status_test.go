package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hostrole/hostrole/agent/admin"
)

// What status --json prints is what the schema promises, in all the states that
// a demo can be in.
func TestStatusSchema(t *testing.T) {
	t.Parallel()
	schema := compiled(t, admin.StatusSchema)
	script := `hostrole status --json
hostrole wait; hostrole credential-process >/dev/null; hostrole status --json
hostrole credential-process --role nobody 2>/dev/null; hostrole revoke app >/dev/null 2>&1; hostrole status --json`
	cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, "hostrole"), "demo", "--", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+binaries+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := strings.SplitAfter(string(out), "\n}\n")
	if len(all) != 4 || all[3] != "" {
		t.Fatalf("%d documents in %s", len(all)-1, out)
	}
	for _, text := range all[:3] {
		got, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(got); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	if bad, err := jsonschema.UnmarshalJSON(strings.NewReader(strings.Replace(all[1], `"state": "live"`, `"state": "well"`, 1))); err != nil || schema.Validate(bad) == nil {
		t.Error("the schema takes anything")
	}
}

// compiled is a schema that can be asked.
func compiled(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
