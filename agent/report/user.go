package report

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/cgroup"
)

// Name is a caller for messages.
func Name(who caller.Caller) string {
	if who.User != "" {
		return fmt.Sprintf("uid %v (%s)", who.UID, who.User)
	}
	return fmt.Sprintf("uid %v", who.UID)
}

// Process is the caller that a process of a user in a cgroup is; the path of
// the cgroup is "" where it is not known, and then its unit and container are
// not either.
func Process(uid uint32, path string) (caller.Caller, error) {
	who, err := User(uid)
	if path != "" && err == nil {
		f := cgroup.Parse(path)
		who.Unit, who.Slice, who.Container, who.Runtime = f.Unit, f.Slice, f.Container, f.Runtime
	}
	return who, err
}

// User finds what the user database has of a uid that the kernel gave for a
// peer. It fails when that cannot be read: without its groups a caller could
// fall through to a rule that is not meant for it.
func User(uid uint32) (caller.Caller, error) {
	var who caller.Caller
	if uid == 65534 || uid == 65535 || uid == 1<<32-1 || uid == overflow() {
		return who, nil // what has no meaning here is nobody
	}
	who.UID = caller.NewID(uid)
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if errors.As(err, new(user.UnknownUserIdError)) {
		return who, nil
	}
	if err != nil {
		return who, fmt.Errorf("reading the user database: %w", err)
	}
	who.User = u.Username
	ids, err := u.GroupIds()
	if err != nil {
		return who, fmt.Errorf("reading the groups of %s: %w", u.Username, err)
	}
	for _, id := range ids {
		switch g, err := user.LookupGroupId(id); {
		case errors.As(err, new(user.UnknownGroupIdError)):
		case err != nil:
			return who, fmt.Errorf("reading the groups of %s: %w", u.Username, err)
		default:
			who.Groups = append(who.Groups, g.Name)
		}
	}
	return who, nil
}

// overflow is the uid that stands for all that have no meaning here.
func overflow() uint32 {
	text, _ := os.ReadFile("/proc/sys/kernel/overflowuid")
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 65534
	}
	return uint32(n) // #nosec G115 -- 32 bits were asked for
}
