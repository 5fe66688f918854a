package assertion_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/command"
	"github.com/hostrole/hostrole/rotation/credential"
)

func jwt(claims string) string {
	b := base64.RawURLEncoding.EncodeToString
	return b([]byte(`{"alg":"RS256"}`)) + "." + b([]byte(claims)) + "." + b([]byte("signature"))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsReadAtEachUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for _, claims := range []string{`{"sub":"a"}`, `{"sub":"b"}`} {
		write(t, path, jwt(claims)+"\n")
		got, err := assertion.File{Path: path}.Get(t.Context())
		if err != nil || got.Text.Reveal() != jwt(claims) {
			t.Errorf("got %v, %v", got.Text.Reveal(), err)
		}
	}
}

// Kubernetes puts a new directory in the place of ..data.
func TestFileBehindSwappedSymlink(t *testing.T) {
	dir := t.TempDir()
	for i, claims := range []string{`{"sub":"a"}`, `{"sub":"b"}`} {
		version := filepath.Join(dir, "..v"+string(rune('0'+i)))
		if err := os.Mkdir(version, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(version, "token"), jwt(claims))
		next := filepath.Join(dir, "..next")
		if err := os.Symlink(version, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := os.Symlink(filepath.Join("..data", "token"), filepath.Join(dir, "token")); err != nil {
				t.Fatal(err)
			}
		}
		got, err := assertion.File{Path: filepath.Join(dir, "token")}.Get(t.Context())
		if err != nil || got.Text.Reveal() != jwt(claims) {
			t.Errorf("swap %d: %v", i, err)
		}
	}
}

func TestFileThatIsGoneForAMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	synctest.Test(t, func(t *testing.T) {
		time.AfterFunc(80*time.Millisecond, func() { write(t, path, jwt(`{}`)) })
		if _, err := (assertion.File{Path: path}).Get(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsNoTokenIsNotShown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for name, text := range map[string]string{
		"empty": "", "a word": "SECRET", "two parts": "SECRET.SECRET", "not base64url": "SECRET.SEC RET.SECRET", "cut short": jwt(`{"sub":"SECRET"}`)[:30] + "..", "too long": jwt(strings.Repeat("SECRET", 5000)),
	} {
		write(t, path, text)
		got, err := assertion.File{Path: path}.Get(t.Context())
		if err == nil {
			t.Errorf("%s: accepted %v", name, got.Text.Reveal())
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: the error shows the text: %v", name, err)
		}
	}
	if _, err := (assertion.File{Path: filepath.Dir(path)}).Get(t.Context()); err == nil {
		t.Error("a directory was accepted")
	}
}

func TestCommand(t *testing.T) {
	run := func(script string) (assertion.Token, error) {
		return assertion.Command{Command: command.Command{Argv: []string{"/bin/sh", "-c", script}, Timeout: 10 * time.Second}}.Get(t.Context())
	}
	tok := jwt(`{"sub":"a"}`)
	for _, script := range []string{"echo " + tok, `printf '{"token": "` + tok + `", "expires_at": 1}'`} {
		if got, err := run(script); err != nil || got.Text.Reveal() != tok {
			t.Errorf("%s: %v", script, err)
		}
	}
	for _, script := range []string{`echo '{"tok": "SECRET"}'`, `echo '{"token": "SECRET'`, "echo SECRET", "echo SECRET; exit 1", "true"} {
		if _, err := run(script); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// What an OAuth provider gives is a word, and not for us to read.
func TestOpaqueTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	get := func(text string) (assertion.Token, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return assertion.File{Path: path, Opaque: true}.Get(t.Context())
	}
	got, err := get("EAAB-word|of.Facebook\n")
	if err != nil || got.Text.Reveal() != "EAAB-word|of.Facebook" || got.Describe(time.Now()) != "token that says nothing of itself" {
		t.Errorf("got %s: %v", got.Describe(time.Now()), err)
	}
	if _, err := (assertion.File{Path: path}).Get(t.Context()); err == nil || !strings.Contains(err.Error(), "no JSON web token") {
		t.Errorf("as a JSON web token: %v", err)
	}
	for name, text := range map[string]string{"nothing": " \n", "two words": "SECRET word", "too little": "abc", "too much": strings.Repeat("SECRET", 4000), "a letter beyond ASCII": "SECRÉT"} {
		if _, err := get(text); err == nil || strings.Contains(err.Error(), "SECR") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for claims, want := range map[string]string{
		`{"iss":"https://i","sub":"host","aud":"sts.amazonaws.com","exp":1700000090}`: `token of issuer "https://i" for subject "host", audience "sts.amazonaws.com", 1m30s left`,
		`{"iss":"https://i","sub":"host","aud":["a","b"],"exp":1699999940}`:           `token of issuer "https://i" for subject "host", audience "[a b]", expired 1m0s ago`,
		`{"sub":"x\u001b[31m"}`: `token of issuer "" for subject "x [31m", audience "<nil>", without expiry`,
		`[]`:                    "token whose claims are no JSON",
	} {
		tok := assertion.Token{Text: credential.NewSecret(jwt(claims))}
		if got := tok.Describe(now); got != want {
			t.Errorf("%s:\n got %s\nwant %s", claims, got, want)
		}
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add(jwt(`{"iss":"a","exp":1}`))
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		s := assertion.Token{Text: credential.NewSecret(text)}.Describe(time.Unix(0, 0))
		for _, r := range s {
			if r < ' ' || r == 0x7f {
				t.Fatalf("%q has a control character", s)
			}
		}
	})
}
