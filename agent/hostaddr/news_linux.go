package hostaddr

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

type (
	addrNews = netlink.AddrUpdate
	linkNews = netlink.LinkUpdate
)

// subscribe asks for news. The library's options for a timeout and for what
// exists already are not usable: the first ends the news when it is over, the
// second needs a capability.
func subscribe() (*news, error) {
	addrs, links := make(chan addrNews, pending), make(chan linkNews, pending)
	done := make(chan struct{})
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default: // the first one is enough
		}
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: fail}); err != nil {
		return nil, fmt.Errorf("asking the kernel for news of addresses: %w", err)
	}
	n := &news{addrs: addrs, failed: failed}
	n.close = func() {
		close(done)
		// The library's goroutines end once their channels are empty.
		for range addrs {
		}
		if n.links != nil {
			for range links {
			}
		}
	}
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: fail}); err != nil {
		n.close()
		return nil, fmt.Errorf("asking the kernel for news of links: %w", err)
	}
	n.links = links
	return n, nil
}

// concerns reports whether u is an occasion to look at the host: one of our
// addresses went, or was put on another link; or, while one is lost, something
// changed on its link.
func (c *Claim) concerns(u addrNews) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, _ := netip.AddrFromSlice(u.LinkAddress.IP)
	a = a.Unmap()
	here := u.LinkIndex == c.link.index
	for _, h := range c.holdings {
		if h.addr == a && (!u.NewAddr || !here) || here && h.why != nil {
			return true
		}
	}
	return false
}

// concernsLink is the same for links: ours came, went, was set up or down, or
// has another name.
func (c *Claim) concernsLink(u linkNews) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := u.Attrs()
	if at.Name != c.o.Link {
		return at.Index == c.link.index
	}
	return u.Header.Type == unix.RTM_DELLINK || at.Index != c.link.index || u.Change != 0
}
