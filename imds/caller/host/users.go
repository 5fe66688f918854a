package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	passwdFile = "passwd"
	groupFile  = "group"
	// lookEvery is how long an answer may be older than the files.
	lookEvery = time.Second
	// databaseLimit bounds each file, in bytes: some 200,000 users.
	databaseLimit = 16 << 20
)

// An account is what the user database says of a uid. Its groups are shared
// and must not be changed.
type account struct {
	name   string
	groups []string // names, primary first
}

// A database is the host's users and groups, from passwd and group. It sees a
// change within a second or two.
type database struct {
	etc    fs.FS
	newest atomic.Pointer[edition]

	mu      sync.Mutex // held while the files are looked at
	files   [2]fs.FileInfo
	settled bool // the files were read again after they had last changed
}

// An edition is the database as it was at some time.
type edition struct {
	accounts map[uint32]account
	err      error
	looked   time.Duration // when the files were last looked at
}

func newDatabase(etc fs.FS) *database { return &database{etc: etc} }

// find returns the account of uid, which is empty when there is none. now is
// the time since some fixed moment. It fails when the files cannot be read:
// without them a caller could fall through to a rule that is not meant for it.
func (d *database) find(uid uint32, now time.Duration) (account, error) {
	e := d.newest.Load()
	if e == nil || now-e.looked >= lookEvery {
		e = d.look(now)
	}
	return e.accounts[uid], e.err
}

// look reads the files if they have changed.
func (d *database) look(now time.Duration) *edition {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.newest.Load()
	if old != nil && now-old.looked < lookEvery {
		return old // somebody else has just looked
	}
	e := &edition{looked: now}
	files, err := d.stat()
	changed := old == nil || old.err != nil || err != nil || !same(d.files, files)
	switch {
	case err != nil:
	case changed || !d.settled:
		// Once more than needed: a second change within the same tick of the
		// clock leaves time and size as they were.
		d.settled = !changed
		e.accounts, err = d.read()
	default:
		e.accounts = old.accounts
	}
	if err != nil {
		e.err = fmt.Errorf("reading the user database: %w", err)
	} else {
		d.files = files
	}
	d.newest.Store(e)
	return e
}

// stat looks at the files. One that was never there is empty; one that has
// gone is an error.
func (d *database) stat() (files [2]fs.FileInfo, err error) {
	for i, name := range []string{passwdFile, groupFile} {
		files[i], err = fs.Stat(d.etc, name)
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || d.files[i] != nil) {
			return files, err
		}
	}
	return files, nil
}

func same(a, b [2]fs.FileInfo) bool {
	for i := range a {
		switch {
		case a[i] == nil && b[i] == nil:
		case a[i] == nil || b[i] == nil,
			!os.SameFile(a[i], b[i]), a[i].Size() != b[i].Size(), !a[i].ModTime().Equal(b[i].ModTime()):
			return false
		}
	}
	return true
}

func (d *database) read() (map[uint32]account, error) {
	passwd, err := d.readFile(passwdFile)
	if err != nil {
		return nil, err
	}
	group, err := d.readFile(groupFile)
	if err != nil {
		return nil, err
	}
	return parseAccounts(passwd, group), nil
}

func (d *database) readFile(name string) (string, error) {
	f, err := d.etc.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, databaseLimit+1))
	if err != nil {
		return "", err
	}
	if len(text) > databaseLimit {
		return "", fmt.Errorf("%s has more than %d bytes", name, databaseLimit)
	}
	return string(text), nil
}

// parseAccounts reads the two files as package os/user does: the first line of
// a uid or gid counts, a line that is malformed does not.
func parseAccounts(passwd, group string) map[uint32]account {
	groupNames := map[uint32]string{}
	memberOf := map[string][]uint32{} // name of a user: gids
	for fields := range records(group, 4) {
		gid, ok := number(fields[2])
		if !ok {
			continue
		}
		if _, twice := groupNames[gid]; !twice {
			groupNames[gid] = fields[0]
		}
		for member := range strings.SplitSeq(fields[3], ",") {
			memberOf[member] = append(memberOf[member], gid)
		}
	}
	accounts := map[uint32]account{}
	for fields := range records(passwd, 7) {
		uid, ok := number(fields[2])
		gid, ok2 := number(fields[3])
		if _, twice := accounts[uid]; !ok || !ok2 || twice {
			continue
		}
		a := account{name: fields[0]}
		for _, gid := range append([]uint32{gid}, memberOf[a.name]...) {
			if name, ok := groupNames[gid]; ok && !slices.Contains(a.groups, name) {
				a.groups = append(a.groups, name)
			}
		}
		accounts[uid] = a
	}
	return accounts
}

func number(text string) (uint32, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err == nil // #nosec G115 -- 32 bits were asked for
}

// records are the lines of a file of the user database that have exactly so
// many fields and a name. Comments and the entries of NIS are none of them.
func records(text string, count int) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line == "" || strings.ContainsRune("#+-", rune(line[0])) {
				continue
			}
			if f := strings.Split(line, ":"); len(f) == count && f[0] != "" && !yield(f) {
				return
			}
		}
	}
}
