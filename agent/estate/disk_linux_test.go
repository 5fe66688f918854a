package estate_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/agent/estate"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/store"
)

// memory is a directory that is in memory.
func memory(t *testing.T) string {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil || int64(st.Type) != unix.TMPFS_MAGIC {
		t.Skip("/dev/shm is no memory here")
	}
	dir, err := os.MkdirTemp("/dev/shm", "estate")
	if err != nil {
		t.Skip("/dev/shm cannot be written to")
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// restored is what a process takes over.
func restored(o estate.Options) (*estate.Estate, credential.Credential) {
	e, st := estate.Inherit(o), &store.Store{}
	e.Restore(st, []rotation.Job{{Key: app}})
	return e, st.Slot(app).Load().Credential
}

// Where no service manager keeps descriptors, memory that has a name does: a
// restart finds tokens and credentials, another boot does not.
func TestWithoutAServiceManagerTheRuntimeDirectoryHasTheState(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var log bytes.Buffer
	o := options(&log)
	o.RuntimeDir = memory(t)
	e, none := restored(o)
	if none.Complete() {
		t.Fatal("there is something at first")
	}
	key := bytes.Clone(e.TokenKey())
	if err := e.Write(map[credential.Key]credential.Credential{app: live("ASIAONE")}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.RuntimeDir, "state")
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Fatalf("the file: %v", err)
	}
	if next, c := restored(o); !bytes.Equal(next.TokenKey(), key) || c.AccessKeyID != "ASIAONE" {
		t.Errorf("the next process has %s, %s", c.ID(), log.String())
	}
	if err := e.Write(nil); err != nil {
		t.Fatal(err)
	}
	if _, c := restored(o); c.Complete() {
		t.Error("what was revoked comes back")
	}
	other := o
	other.BootID = "another"
	if next, c := restored(other); bytes.Equal(next.TokenKey(), key) || c.Complete() || !strings.Contains(log.String(), "another boot") {
		t.Errorf("another boot takes it: %s", log.String())
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if next, _ := restored(o); bytes.Equal(next.TokenKey(), key) {
		t.Error("a file that everybody can read is used")
	}
}

func TestADiskNeverHasTheState(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	o := options(&bytes.Buffer{})
	o.RuntimeDir = t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(o.RuntimeDir, &st); err != nil || int64(st.Type) == unix.TMPFS_MAGIC {
		t.Skip("the temporary directory is memory")
	}
	e, _ := restored(o)
	if err := e.Write(map[credential.Key]credential.Credential{app: live("ASIAONE")}); err != nil {
		t.Fatal(err)
	}
	if all, err := os.ReadDir(o.RuntimeDir); err != nil || len(all) > 0 {
		t.Errorf("%d files are there: %v", len(all), err)
	}
}

// Who wants that has live credentials after a reboot, and no tokens.
func TestCredentialsOutlastAReboot(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var log bytes.Buffer
	word := "0123456789abcdef0123456789abcdef"
	before := options(&log)
	before.Reboot = estate.Reboot{Path: filepath.Join(t.TempDir(), "reboot"), Machine: "a", Secret: func() (credential.Secret, error) {
		if word == "" {
			return credential.Secret{}, errors.New("it is not set")
		}
		return credential.NewSecret(word), nil
	}}
	e, _ := restored(before)
	key := bytes.Clone(e.TokenKey())
	if err := e.Write(map[credential.Key]credential.Credential{app: live("ASIAONE")}); err != nil {
		t.Fatal(err)
	}
	after := before
	after.BootID, after.Boot, after.Now = "another", func() time.Duration { return 20 * time.Second }, func() time.Time { return noon.Add(10 * time.Minute) }
	next, c := restored(after)
	if bytes.Equal(next.TokenKey(), key) || c.AccessKeyID != "ASIAONE" || c.Received != 20*time.Second-11*time.Minute {
		t.Errorf("the next boot has %s, received %v: %s", c.ID(), c.Received, log.String())
	}
	if err := next.Write(map[credential.Key]credential.Credential{app: c}); err != nil {
		t.Errorf("what has come over a reboot cannot be left to the next: %v", err)
	}
	late := after
	late.Now = func() time.Time { return noon.Add(2 * time.Hour) }
	if _, c := restored(late); c.Complete() {
		t.Error("what has ended comes back")
	}
	good, err := os.ReadFile(before.Reboot.Path)
	if err != nil || bytes.Contains(good, []byte(secret)) {
		t.Fatalf("the file shows a secret: %v", err)
	}
	for name, spoil := range map[string]func() error{
		"altered": func() error {
			return os.WriteFile(before.Reboot.Path, append(bytes.Clone(good[:len(good)-1]), ^good[len(good)-1]), 0o600)
		},
		"another secret": func() error { word = strings.Repeat("x", 32); return nil },
		"no secret":      func() error { word = ""; return nil },
		"open to others": func() error { return os.Chmod(before.Reboot.Path, 0o644) },
	} {
		was := word
		if err := errors.Join(os.WriteFile(before.Reboot.Path, good, 0o600), os.Chmod(before.Reboot.Path, 0o600), spoil()); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		if _, c := restored(after); c.Complete() || !strings.Contains(log.String(), "begins without credentials") {
			t.Errorf("%s: it is used, or nobody is told: %s", name, log.String())
		}
		word = was
	}
	if word = ""; e.Write(maps.Clone(map[credential.Key]credential.Credential{app: live("ASIATWO")})) == nil {
		t.Error("nobody is told that there is no key")
	}
}
