package document_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hostrole/hostrole/imds/document"
)

// names lists a folder, so that nothing is left behind in it.
func names(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	for _, e := range must(os.ReadDir(dir)) {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestLoadOrCreateMakesAKeyOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "site.pem")
	defer syscall.Umask(syscall.Umask(0o777)) // the worst there is
	first, err := document.LoadOrCreate(path, "db-7", made)
	if err != nil {
		t.Fatal(err)
	}
	if st := must(os.Stat(path)); st.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", st.Mode())
	}
	if got := names(t, dir); got != "site.pem" {
		t.Errorf("the folder has %q: something was left behind", got)
	}
	before := must(os.ReadFile(path))
	second, err := document.LoadOrCreate(path, "another name", made.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Certificate(), second.Certificate()) || !bytes.Equal(before, must(os.ReadFile(path))) {
		t.Error("the second start has another key, which nobody knows")
	}
	if a, b := must(first.Sign(captured)), must(second.Sign(captured)); a != b {
		t.Error("the two starts sign the same document differently")
	}
	if c := certificateOf(second); c.Subject.CommonName != "db-7" {
		t.Errorf("the certificate is of %s", c.Subject)
	}
}

func TestAllWhoMakeAKeyHaveTheSame(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "site.pem")
	keys := make([]*document.Key, 4)
	var group sync.WaitGroup
	for i := range keys {
		group.Go(func() {
			var err error
			if keys[i], err = document.LoadOrCreate(path, "db-7", made); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	for i, k := range keys {
		if !bytes.Equal(k.Certificate(), keys[0].Certificate()) {
			t.Errorf("%d and 0 have different keys", i)
		}
	}
	if text := must(os.ReadFile(path)); !bytes.Contains(text, keys[0].Certificate()) {
		t.Error("the file has the key of none of them")
	}
	if got := names(t, dir); got != "site.pem" {
		t.Errorf("the folder has %q: something was left behind", got)
	}
}

func TestLoadOrCreateReplacesNothing(t *testing.T) {
	file := siteFile()
	for name, row := range map[string]struct {
		text []byte
		mode fs.FileMode
		want string
	}{
		"a file that the group may read":   {file, 0o640, "chmod 600"},
		"a file that all may read":         {file, 0o604, "chmod 600"},
		"a file that the group may write":  {file, 0o620, "chmod 600"},
		"an empty file":                    {nil, 0o600, "remove it to have a new key made"},
		"a file that was cut":              {file[:700], 0o600, "remove it to have a new key made"},
		"a file of zeros, after a crash":   {make([]byte, 3000), 0o600, "remove it to have a new key made"},
		"a file that is too large":         {bytes.Repeat([]byte("\n"), 64<<10+1), 0o600, "larger than 65536 bytes"},
		"a key with another's certificate": {append(bytes.SplitAfter(file, []byte("-----END PRIVATE KEY-----\n"))[0], stranger().Certificate()...), 0o600, "of another key"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "site.pem")
		if err := errors.Join(os.WriteFile(path, row.text, 0o600), os.Chmod(path, row.mode)); err != nil {
			t.Fatal(err)
		}
		k, err := document.LoadOrCreate(path, "db-7", made)
		switch {
		case err == nil || k != nil:
			t.Errorf("%s is accepted", name)
		case !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), path):
			t.Errorf("%s: %v, want the path and %q", name, err, row.want)
		case strings.Contains(err.Error(), body()[:16]):
			t.Errorf("%s: the error shows the key", name)
		}
		if !bytes.Equal(must(os.ReadFile(path)), row.text) || must(os.Stat(path)).Mode() != row.mode {
			t.Errorf("%s: the file was changed", name)
		}
		if got := names(t, dir); got != "site.pem" {
			t.Errorf("%s: the folder has %q", name, got)
		}
	}
}

func TestLoadOrCreateNeedsAPlace(t *testing.T) {
	dir := t.TempDir()
	if _, err := document.LoadOrCreate(filepath.Join(dir, "no", "site.pem"), "db-7", made); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "is its folder there") {
		t.Errorf("without the folder: %v", err)
	}
	if _, err := document.LoadOrCreate(dir, "db-7", made); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a folder in its place: %v", err)
	}
	// Somebody's link must not become a way to write elsewhere.
	link, target := filepath.Join(dir, "site.pem"), filepath.Join(dir, "target")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := document.LoadOrCreate(link, "db-7", made); err == nil {
		t.Error("a key is written through a link that leads nowhere")
	}
	if got := names(t, dir); got != "site.pem" {
		t.Errorf("the folder has %q", got)
	}
}
