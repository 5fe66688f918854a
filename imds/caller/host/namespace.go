package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	procUIDMap   = "/proc/self/uid_map"
	procOverflow = "/proc/sys/kernel/overflowuid"
	fullMap      = "0 0 4294967295"
)

// checkUIDMap returns an error where the kernel would give this process wrong
// uids: in a user namespace, every uid that is not mapped reads as 65534.
func checkUIDMap(path string, trust bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the map of uids: %w; /proc must be mounted", err)
	}
	if !wholeMap(string(text)) && !trust {
		return fmt.Errorf("%w, whose map of uids is %q and not %q: other users would all look the same; run it outside, and without PrivateUsers=",
			ErrUserNamespace, strings.Join(strings.Fields(string(text)), " "), fullMap)
	}
	return nil
}

// wholeMap reports whether a map of uids changes none and leaves out none.
func wholeMap(text string) bool { return strings.Join(strings.Fields(text), " ") == fullMap }

// readOverflow is the uid that the kernel gives for uids without a meaning, if
// the host has chosen one; else the kernel's own choice.
func readOverflow(path string) uint32 {
	text, _ := os.ReadFile(path) // hidden from some services
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 65534
	}
	return uint32(n)
}
