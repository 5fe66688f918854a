package handover_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/handover"
)

var (
	lock = handover.Lock{Secret: credential.NewSecret("0123456789abcdef0123456789abcdef"), Machine: "a"}
	// later is 10 minutes after now, 20 s after the next boot.
	later = handover.Moment{BootID: "another", Wall: noon.Add(10 * time.Minute), Boot: 20 * time.Second}
)

func closed(t testing.TB, c map[credential.Key]credential.Credential) []byte {
	t.Helper()
	b, err := lock.Close(c, now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCredentialsOutlastAReboot(t *testing.T) {
	c := live()
	c.Endpoint = "sts.eu-central-1.amazonaws.com"
	short := c
	short.Expires = noon.Add(10*time.Minute + 30*time.Second)
	// The issuer's clock is two hours ahead of this host's, which knew that then.
	skewed := c
	skewed.Issued, skewed.Expires = c.Issued.Add(2*time.Hour), c.Expires.Add(2*time.Hour)
	always := c
	always.Expires = time.Time{}
	all := map[credential.Key]credential.Credential{
		credential.NewKey("good"): c, credential.NewKey("short"): short, credential.NewKey("skewed"): skewed, credential.NewKey("always"): always,
	}
	b := closed(t, all)
	for _, text := range []string{secret, c.AccessKeyID, "sts.eu"} {
		if bytes.Contains(b, []byte(text)) {
			t.Errorf("%q can be read in it", text)
		}
	}
	got, err := lock.Open(b, later)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d credentials came back: %v", len(got), err)
	}
	for name, was := range map[string]credential.Credential{"good": c, "skewed": skewed} {
		is := got[credential.NewKey(name)]
		left := is.Expires.Sub(is.Issued) - (later.Boot - is.Received)
		if want := was.Expires.Sub(was.Issued) - (now.Boot - was.Received) - 10*time.Minute; left != want {
			t.Errorf("%s: %v are left, want %v", name, left, want)
		}
		is.Received = was.Received
		if diff := cmp.Diff(was, is, cmp.Transformer("plain", plain)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// What has come over a reboot is handed over to the next process like any.
	key := bytes.Repeat([]byte{7}, 32)
	paper, err := handover.Encode(handover.Contents{TokenKey: key, Credentials: got, Written: later.Boot}, "another")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := handover.Decode(paper, later); err != nil || len(again.Credentials) != 2 {
		t.Errorf("%d are handed over: %v", len(again.Credentials), err)
	}
}

func TestALockStaysShut(t *testing.T) {
	good := closed(t, contents().Credentials)
	with := func(secret, machine string) handover.Lock {
		return handover.Lock{Secret: credential.NewSecret(secret), Machine: machine}
	}
	for name, c := range map[string]struct {
		lock  handover.Lock
		input []byte
		at    handover.Moment
		want  error
	}{
		"another secret":          {with("x123456789abcdef0123456789abcdef", "a"), good, later, handover.ErrLocked},
		"another machine":         {with("0123456789abcdef0123456789abcdef", "b"), good, later, handover.ErrLocked},
		"a clock that is behind":  {lock, good, handover.Moment{Wall: noon.Add(-time.Second), Boot: time.Minute}, handover.ErrClock},
		"a clock of 1970":         {lock, good, handover.Moment{Wall: time.Unix(0, 0), Boot: time.Minute}, handover.ErrClock},
		"nothing":                 {lock, nil, later, handover.ErrForm},
		"something else":          {lock, []byte(strings.Repeat("x", 100)), later, handover.ErrForm},
		"what is for this boot":   {lock, encoded(t, contents()), later, handover.ErrForm},
		"more than the limit":     {lock, append(bytes.Clone(good), make([]byte, handover.Limit)...), later, handover.ErrForm},
		"a secret that is no key": {with("password", "a"), good, later, nil},
	} {
		got, err := c.lock.Open(c.input, c.at)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %d credentials, %v; want %v", name, len(got), err, c.want)
		} else if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "password") {
			t.Errorf("%s: the error shows a secret", name)
		}
	}
	if _, err := with("password", "a").Close(nil, now); err == nil {
		t.Error("a password is a key")
	}
	for n := range good {
		bad := bytes.Clone(good)
		bad[n] ^= 1 << (n % 8)
		if _, err := lock.Open(bad, later); err == nil {
			t.Fatalf("byte %d may be altered", n)
		}
		if _, err := lock.Open(good[:n], later); err == nil {
			t.Fatalf("%d bytes of %d pass", n, len(good))
		}
	}
	if again := closed(t, contents().Credentials); bytes.Equal(again[:48], good[:48]) {
		t.Error("two files have one salt")
	}
}

func FuzzLock(f *testing.F) {
	f.Add(closed(f, contents().Credentials))
	f.Add([]byte("hostrole reboot\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := lock.Open(b, later)
		for _, c := range got {
			if credential.Check(c) != nil {
				t.Error("what may not be served came out")
			}
		}
		if err != nil && got != nil {
			t.Error("it was used by half")
		}
	})
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if _, err := handover.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	for _, text := range []string{"one", "another"} {
		if err := handover.WriteFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := handover.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("read %q: %v", b, err)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("its mode is %v: %v", st.Mode(), err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("%d files are there: %v", len(all), err)
	}
	for name, c := range map[string]struct {
		do   func(path string) error
		want error
	}{
		"that the group may read":   {func(path string) error { return os.Chmod(path, 0o640) }, handover.ErrOpen},
		"that all may write":        {func(path string) error { return os.Chmod(path, 0o602) }, handover.ErrOpen},
		"that is a link":            {func(path string) error { return errors.Join(os.Rename(path, path+"x"), os.Symlink(path+"x", path)) }, nil},
		"that is a directory":       {func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, handover.ErrForm},
		"that is larger than ours":  {func(path string) error { return os.Truncate(path, handover.Limit+1) }, handover.ErrForm},
		"that is somebody else's":   {func(path string) error { return os.Chown(path, 54321, -1) }, handover.ErrOpen},
		"whose folder is not there": {func(path string) error { return os.RemoveAll(filepath.Dir(path)) }, fs.ErrNotExist},
	} {
		path := filepath.Join(t.TempDir(), "folder", "state")
		if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), handover.WriteFile(path, []byte("text"))); err != nil {
			t.Fatal(err)
		}
		if err := c.do(path); errors.Is(err, fs.ErrPermission) {
			continue // who is not root gives no file away
		} else if err != nil {
			t.Fatal(err)
		}
		if b, err := handover.ReadFile(path); err == nil || c.want != nil && !errors.Is(err, c.want) || b != nil {
			t.Errorf("a file %s: %q, %v", name, b, err)
		}
	}
}
