package hostaddr

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// expireAddress gives an address of ours an end; putAddress takes that away.
func expireAddress(l link, a netip.Addr, after time.Duration) error {
	at := addressOn(l, a)
	at.ValidLft = int(after / time.Second)
	if a.Is4() {
		at.PreferedLft = at.ValidLft // without it, the kernel calls it deprecated
	}
	err := netlink.AddrReplace(nil, at)
	if err == nil || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("giving %v on %s an end: %w", a, l.name, hint(err))
}
