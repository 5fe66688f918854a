package host_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hostrole/hostrole/imds/caller/host"
)

func etc(passwd, group string) fstest.MapFS {
	at := time.Unix(1_700_000_000, 0)
	return fstest.MapFS{"passwd": {Data: []byte(passwd), ModTime: at}, "group": {Data: []byte(group), ModTime: at}}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	d := host.NewDatabase(etc(`root:x:0:0:root:/root:/bin/bash
# a comment:x:7:7::/:/bin/sh
+nis:x:8:8::/:/bin/sh
  app:x:1000:1000:,,,:/home/app:/bin/sh
again:x:1000:1001::/:/bin/sh
short:x:1002:1000:/home:/bin/sh
:x:1003:1000::/:/bin/sh
letters:x:10o4:1000::/:/bin/sh
minus:x:-1:1000::/:/bin/sh
-nis:x:9:9::/:/bin/sh
huge:x:4294967297:1000::/:/bin/sh
hex:x:0x10:1000::/:/bin/sh
long:x:1008:1000::/:/bin/sh:
zoe:x:1007:4::/:/bin/sh
largest:x:4294967294:1000::/:/bin/sh
lonely:x:1005:99::/:/bin/sh
group:x:1006:l000::/:/bin/sh
`, `root:x:0:
app:x:1000:
twin:x:1000:app
docker:x:998:app,lonely,app,zoe
adm:x:4:app
huge:x:4294967300:lonely
bad:x:x:app
short:x:5
`))
	for uid, want := range map[uint32][]string{
		0: {"root", "root"}, 1000: {"app", "app", "docker", "adm"}, 4294967294: {"largest", "app"}, 1005: {"lonely", "docker"},
		1007: {"zoe", "adm", "docker"}, 1: {""}, 9: {""}, 16: {""}, 1008: {""},
		7: {""}, 8: {""}, 1002: {""}, 1003: {""}, 1006: {""}, 4294967295: {""}, 1001: {""},
	} {
		name, groups, err := d.Find(uid, 0)
		if got := append([]string{name}, groups...); err != nil || !slices.Equal(got, want) {
			t.Errorf("uid %d: %q, %v, want %q", uid, got, err, want)
		}
	}
}

// A change is seen within a second or two, and a file that was there may not go:
// a caller could fall through to a rule that is not meant for it.
func TestUsersChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	passwd := filepath.Join(dir, "passwd")
	write := func(text string, at int64) {
		t.Helper()
		if err := errors.Join(os.WriteFile(passwd, []byte(text), 0o600), os.Chtimes(passwd, time.Unix(at, 0), time.Unix(at, 0))); err != nil {
			t.Fatal(err)
		}
	}
	d := host.NewDatabase(os.DirFS(dir))
	find := func(now time.Duration) (string, error) {
		name, _, err := d.Find(1000, now)
		return name, err
	}
	if name, err := find(0); name != "" || err != nil {
		t.Errorf("without files: %q, %v", name, err)
	}
	write("one:x:1000:1000::/:/bin/sh\n", 1)
	if name, err := find(999 * time.Millisecond); name != "" || err != nil {
		t.Errorf("within a second: %q, %v", name, err)
	}
	if name, err := find(time.Second); name != "one" || err != nil {
		t.Errorf("after a second: %q, %v", name, err)
	}
	write("two:x:1000:1000::/:/bin/sh\n", 1) // the same size, within the same tick
	if name, err := find(2 * time.Second); name != "two" || err != nil {
		t.Errorf("changed a second time: %q, %v", name, err)
	}
	if name, err := find(3 * time.Second); name != "two" || err != nil {
		t.Errorf("unchanged: %q, %v", name, err)
	}
	if err := os.Remove(passwd); err != nil {
		t.Fatal(err)
	}
	if name, err := find(4 * time.Second); name != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone: %q, %v", name, err)
	}
	write("three:x:1000:1000::/:/bin/sh\n", 2)
	if name, err := find(5 * time.Second); name != "three" || err != nil {
		t.Errorf("back: %q, %v", name, err)
	}
	write(strings.Repeat("#", host.DatabaseLimit+1), 3)
	if name, err := find(6 * time.Second); name != "" || err == nil || !strings.Contains(err.Error(), "passwd has more than") {
		t.Errorf("beyond all bounds: %q, %v", name, err)
	}
}

// Of size, time and the file itself, any one that differs is a change; and a file
// that was gone is read again, even as it was.
func TestUsersChangeInOneWay(t *testing.T) {
	t.Parallel()
	line := func(name string) string { return name + ":x:1000:1000::/:/bin/sh\n" }
	for what, tc := range map[string]struct {
		text   string
		at     int64
		rename bool
	}{"size": {line("longer"), 1, false}, "time": {line("two"), 2, false}, "file": {line("two"), 1, true}} {
		dir := t.TempDir()
		passwd := filepath.Join(dir, "passwd")
		write := func(path, text string, at int64) {
			t.Helper()
			if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, time.Unix(at, 0), time.Unix(at, 0))); err != nil {
				t.Fatal(err)
			}
		}
		d, now := host.NewDatabase(os.DirFS(dir)), time.Duration(0)
		find := func() (string, error) {
			name, _, err := d.Find(1000, now)
			now += time.Second
			return name, err
		}
		write(passwd, line("one"), 1)
		for range 3 { // until the files are looked at and not read
			if name, err := find(); name != "one" || err != nil {
				t.Fatalf("%s: %q, %v", what, name, err)
			}
		}
		if err := os.Rename(passwd, passwd+"~"); err != nil {
			t.Fatal(err)
		}
		if name, err := find(); name != "" || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: gone: %q, %v", what, name, err)
		}
		if err := os.Rename(passwd+"~", passwd); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if name, err := find(); name != "one" || err != nil {
				t.Errorf("%s: back as it was: %q, %v", what, name, err)
			}
		}
		if tc.rename {
			write(passwd+".new", tc.text, tc.at)
			if err := os.Rename(passwd+".new", passwd); err != nil {
				t.Fatal(err)
			}
		} else {
			write(passwd, tc.text, tc.at)
		}
		if name, err := find(); err != nil || name+":" != tc.text[:len(name)+1] {
			t.Errorf("another %s: %q, %v", what, name, err)
		}
	}
}

// A file that cannot be read leaves nobody with a name, be it the one of groups.
func TestUsersThatCannotBeRead(t *testing.T) {
	t.Parallel()
	one := "one:x:1000:1000::/:/bin/sh\n"
	full := one + strings.Repeat("#", host.DatabaseLimit-len(one))
	for what, tc := range map[string]struct {
		etc  fstest.MapFS
		want string // of the error
	}{
		"at the bound":     {etc(full, full), ""},
		"beyond it, users": {etc(full+"#", ""), "passwd has more than"},
		"beyond it, group": {etc(one, full+"#"), "group has more than"},
		"no file, users":   {fstest.MapFS{"passwd": {Mode: fs.ModeDir}}, "read passwd"},
		"no file, group":   {fstest.MapFS{"passwd": {Data: []byte(one)}, "group": {Mode: fs.ModeDir}}, "read group"},
	} {
		name, groups, err := host.NewDatabase(tc.etc).Find(1000, 0)
		if tc.want == "" && (name != "one" || err != nil) || tc.want != "" && (name != "" || groups != nil || err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %q, %q, %v", what, name, groups, err)
		}
	}
}

// Whatever the files hold, a uid has at most one name, without a colon, and no
// group twice.
func FuzzUsers(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/bash\n", "root:x:0:\n", uint32(0))
	f.Add("app:x:1000:1000::/:\n+::::::\n", "app:x:1000:app,app\n", uint32(1000))
	f.Fuzz(func(t *testing.T, passwd, group string, uid uint32) {
		name, groups, err := host.NewDatabase(etc(passwd, group)).Find(uid, 0)
		if err != nil || strings.ContainsAny(name, ":\n") || name == "" && groups != nil {
			t.Errorf("%q, %q, %v", name, groups, err)
		}
		slices.Sort(groups)
		if len(slices.Compact(slices.Clone(groups))) != len(groups) {
			t.Errorf("the groups of %q are %q", name, groups)
		}
	})
}

func TestMapOfUIDs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "uid_map")
	for text, whole := range map[string]bool{
		"         0          0 4294967295\n": true, "0 0 4294967295": true, "0 1000 1\n": false, "": false, "0 0 4294967294\n": false,
		"0 0 1\n1 100000 65536\n": false, "0 0 4294967295\n0 0 4294967295\n": false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := host.CheckUIDMap(path, false); (err == nil) != whole || err != nil && !errors.Is(err, host.ErrUserNamespace) {
			t.Errorf("%q: %v", text, err)
		}
		if err := host.CheckUIDMap(path, true); err != nil {
			t.Errorf("%q, trusted: %v", text, err)
		}
	}
	if err := host.CheckUIDMap(path+"x", true); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/proc must be mounted") {
		t.Errorf("without /proc: %v", err)
	}
	for text, want := range map[string]uint32{"65534\n": 65534, "1234": 1234, "1235\n": 1235, "": 65534, "-1": 65534, "4294967296": 65534} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := host.ReadOverflow(path); got != want {
			t.Errorf("%q is read as %d", text, got)
		}
	}
	if got := host.ReadOverflow(path + "x"); got != 65534 {
		t.Errorf("without a file: %d", got)
	}
	e := host.WithOverflow(1234)
	for uid, want := range map[uint32]bool{0: false, 1233: false, 1234: true, 65533: false, 65534: true, 65535: true, 65536: false, 1<<32 - 1: true} {
		if got := e.Meaningless(uid); got != want {
			t.Errorf("uid %d has no meaning: %t", uid, got)
		}
	}
}
