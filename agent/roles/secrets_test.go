package roles_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/roles"
)

const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

func TestReferences(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := []string{"SET=" + secret, "EMPTY=", "CREDENTIALS_DIRECTORY=" + dir}
	good := put("good", secret+"\n", 0o600)
	for name, r := range map[string]config.Ref{"file": {File: good}, "env": {Env: "SET"}, "credential": {Credential: "good"}} {
		if got, err := roles.Follow(env, r); err != nil || got.Reveal() != secret {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		r    config.Ref
		want string
	}{
		"missing file":     {config.Ref{File: filepath.Join(dir, "none")}, "no such file"},
		"open to others":   {config.Ref{File: put("open", secret, 0o644)}, "chmod 600"},
		"open to a group":  {config.Ref{File: put("group", secret, 0o640)}, "chmod 600"},
		"empty":            {config.Ref{File: put("empty", "\n", 0o600)}, "is empty"},
		"huge":             {config.Ref{File: put("huge", strings.Repeat(secret, 5000), 0o600)}, "larger than"},
		"directory":        {config.Ref{File: dir}, "no regular file"},
		"unset variable":   {config.Ref{Env: "UNSET"}, "UNSET is not set"},
		"empty variable":   {config.Ref{Env: "EMPTY"}, "EMPTY is not set"},
		"other credential": {config.Ref{Credential: "none"}, "no such file"},
	} {
		_, err := roles.Follow(env, c.r)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := roles.Follow(nil, config.Ref{Credential: "good"}); err == nil || !strings.Contains(err.Error(), "LoadCredential=good") {
		t.Errorf("without a credentials directory: %v", err)
	}
}
