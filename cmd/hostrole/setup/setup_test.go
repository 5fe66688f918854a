package setup_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/cmd/hostrole/operator"
	"github.com/hostrole/hostrole/cmd/hostrole/setup"
)

// run gives the command some words and a standard input that is no terminal.
func run(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	c := setup.Command()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetIn(strings.NewReader(stdin))
	c.SetArgs(args)
	c.SilenceUsage, c.SilenceErrors = true, true
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

var (
	app  = []string{"--role", "arn:aws:iam::111122223333:role/path/app", "--allow", "user:app"}
	args = map[string][]string{
		"web-identity":   {"--token", "file:/run/corp/token"},
		"saml":           {"--token", "command:/usr/libexec/fetch-assertion --for aws"},
		"roles-anywhere": {"--certificate", "/etc/hostrole/device.crt", "--secret", "file:/etc/hostrole/device.key", "--trust-anchor", "arn:aws:rolesanywhere:eu-central-1:111122223333:trust-anchor/8ae8b1c2-0000-0000-0000-000000000000", "--profile-arn", "arn:aws:rolesanywhere:eu-central-1:111122223333:profile/8ae8b1c2-0000-0000-0000-000000000001"},
		"cognito":        {"--pool", "eu-central-1:b97abbc1-0000-0000-0000-000000000000", "--provider", "idp.example.com", "--token", "file:/run/corp/token"},
		"vault":          {"--vault-address", "https://vault.example.com:8200", "--vault-role", "deploy", "--secret", "file:/run/vault/token"},
		"instance":       {"--service-url", "http://127.0.0.1:1338"},
		"process":        {"--command", "/usr/bin/fetch --json"},
		"static":         {"--access-key-id", "AKIAIOSFODNN7EXAMPLE", "--secret", "credential:aws-secret"},
	}
)

// For every kind of source that the reader of the configuration knows, what is
// written is what the answers say, and the reader takes it.
func TestEveryKind(t *testing.T) {
	known, _ := reflect.TypeFor[config.Source]().FieldByName("Kind")
	for _, kind := range strings.Fields(known.Tag.Get("oneof")) {
		if _, there := args[kind]; !there {
			t.Errorf("nobody tries --source %s", kind)
		}
	}
	for kind, flags := range setup.Kinds() {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hostrole.toml")
			all := slices.Concat([]string{"--config", path, "--offline", "--region", "eu-central-1", "--source", kind}, args[kind], app)
			if out, err := run(t, "", all...); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			cfg, err := config.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Sources["host"].Kind != kind || cfg.Roles["app"].ARN != "arn:aws:iam::111122223333:role/path/app" || len(cfg.Allow) != 1 || !slices.Equal(cfg.Allow[0].User, []string{"app"}) || kind != "static" && len(cfg.Warnings) > 0 {
				t.Errorf("it says %+v, %+v, %+v, %v", cfg.Sources, cfg.Roles, cfg.Allow, cfg.Warnings)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(args[kind]); i += 2 {
				for _, word := range strings.Fields(args[kind][i+1]) {
					if _, rest, is := strings.Cut(word, ":/"); is && !strings.Contains(word, "://") {
						word = "/" + rest
					}
					if word = strings.TrimPrefix(word, "credential:"); !strings.Contains(string(text), word) {
						t.Errorf("%s is not in\n%s", word, text)
					}
				}
			}
			st, err := os.Stat(path)
			if err != nil || st.Mode() != 0o644 {
				t.Errorf("its mode is %v, %v", st.Mode(), err)
			}

			// Without any one of them, and without a terminal, it says which.
			for _, flag := range append(flags, "region", "role", "allow", "source") {
				path := filepath.Join(t.TempDir(), "hostrole.toml")
				less := slices.Clone(all[3:])
				i := slices.Index(less, "--"+flag)
				less = append([]string{"--config", path, "--offline"}, slices.Delete(less, i, i+2)...)
				_, err := run(t, "", less...)
				if want := "--" + flag + ":"; !errors.Is(err, operator.ErrUsage) || !strings.Contains(err.Error(), want) {
					t.Errorf("without --%s: %v", flag, err)
				}
				if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
					t.Errorf("without --%s it leaves %v", flag, left)
				}
			}
		})
	}
}

// A secret from the standard input is kept where its owner alone can read it,
// and is nowhere else; the service is told where to load it from.
func TestSecretIsKept(t *testing.T) {
	for _, service := range []bool{false, true} {
		dir := t.TempDir()
		path, units := filepath.Join(dir, "etc", "hostrole.toml"), filepath.Join(dir, "units")
		all := slices.Concat([]string{"--config", path, "--units", units, "--offline", "--region", "eu-central-1", "--source", "static",
			"--access-key-id", "AKIAIOSFODNN7EXAMPLE", "--secret", "-"}, app)
		if service {
			all = append(all, "--service-config", path)
		}
		out, err := run(t, secret+"\n", all...)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "etc", "credentials", "aws-secret")
		kept, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(kept)) != secret {
			t.Fatalf("it keeps %q, %v", kept, err)
		}
		for at, want := range map[string]fs.FileMode{file: 0o600, filepath.Dir(file): 0o700 | fs.ModeDir} {
			if st, err := os.Stat(at); err != nil || st.Mode() != want {
				t.Errorf("the mode of %s is %v, want %v", at, st.Mode(), want)
			}
		}
		text, err := os.ReadFile(path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, "another\n", all...); err == nil || !strings.Contains(err.Error(), file+" is there") {
			t.Errorf("a secret that is there: %v", err)
		}
		if kept, _ := os.ReadFile(file); strings.TrimSpace(string(kept)) != secret {
			t.Errorf("the secret was overwritten with %q", kept)
		}
		if err != nil || strings.Contains(string(text)+out, secret) {
			t.Errorf("the secret is in the configuration or on the screen: %v", err)
		}
		drop, err := os.ReadFile(filepath.Join(units, "hostrole.service.d", "credential-aws-secret.conf"))
		want, ref := "\n[Service]\nLoadCredential=aws-secret:"+file+"\n", `secret_access_key = { credential = "aws-secret" }`
		if !service {
			want, ref = "", `secret_access_key = { file = "`+file+`" }`
		}
		if !strings.HasSuffix(string(drop), want) || service != (err == nil) || !strings.Contains(string(text), ref) {
			t.Errorf("service %v: the unit has %q, and the configuration\n%s", service, drop, text)
		}
	}
}

// What is there stays, without --force, and nothing is left of an answer that
// cannot be right.
func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hostrole.toml")
	all := slices.Concat([]string{"--config", path, "--offline", "--region", "eu-central-1", "--source", "process", "--command", "/bin/true"}, app)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "", all...); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a configuration that is there: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("it was overwritten: %q, %v", text, err)
	}
	example := filepath.Join(t.TempDir(), "example")
	if err := os.WriteFile(example, []byte("mine, once"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "", append(all, "--packaged-config", example)...); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a configuration of the package's that was changed: %v", err)
	}
	for what, more := range map[string][]string{
		"a region":                       {"--region", "Frankfurt"},
		"a role":                         {"--role", "arn:aws:iam::1:role/app"},
		"a caller":                       {"--allow", "app"},
		"a relative program":             {"--command", "fetch"},
		"a flag of another kind":         {"--token", "file:/run/token"},
		"a secret in place of its place": {"--source", "static", "--secret", secret},
		"a kind":                         {"--source", "oidc"},
	} {
		_, err := run(t, "", append(all, append([]string{"--force"}, more...)...)...)
		if err == nil || !strings.Contains(err.Error(), more[0]) && !strings.Contains(err.Error(), more[len(more)-2]) {
			t.Errorf("%s that cannot be right: %v", what, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the secret is in %v", what, err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("it was overwritten: %q, %v", text, err)
	}
	if _, err := run(t, "", append(all, "--force")...); err != nil {
		t.Error(err)
	}
	if _, err := config.Load(path); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("it leaves %v", left)
	}
}

// What nobody has changed since the package brought it is replaced without a
// question where nobody can be asked.
func TestAnUntouchedConfigurationIsReplaced(t *testing.T) {
	path, example := filepath.Join(t.TempDir(), "hostrole.toml"), filepath.Join(t.TempDir(), "example")
	for _, at := range []string{path, example} {
		if err := os.WriteFile(at, []byte("# CHANGE\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := run(t, "", "--config", path, "--packaged-config", example, "--offline", "--region", "eu-central-1", "--source", "process", "--command", "/bin/true", "--role", "arn:aws:iam::111122223333:role/app", "--allow", "any")
	text, rerr := os.ReadFile(path)
	if err != nil || rerr != nil || !strings.Contains(string(text), "[role.app]") {
		t.Errorf("%v, %v\n%s", err, rerr, text)
	}
}
