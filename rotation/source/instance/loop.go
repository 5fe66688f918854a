package instance

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
)

// A Loop keeps the daemon from asking itself. Either function may be nil,
// which knows of nothing.
type Loop struct {
	Own      func(netip.AddrPort) bool // whether the daemon listens there, or is redirected to from there
	OwnToken func(token string) bool   // whether the daemon has made that session token
}

var errOwn = errors.New("the endpoint leads back to this daemon: name one that is not its own")

// metadata are the IPv6 addresses of EC2's services; those of IPv4 are
// link-local.
var metadata = netip.MustParsePrefix("fd00:ec2::/32")

// check refuses an endpoint that is ours, or that would have keys cross a
// network unprotected. Plain HTTP goes to a literal address, as the services
// have it, or to localhost: no name server is asked. HTTPS proves its name, and
// this daemon does not speak it.
func (l Loop) check(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil {
		// The parser's error would quote the path, which may be a secret.
		return errors.New("endpoint: it is no URL of a service: it reads http://169.254.169.254")
	}
	if u.Scheme == "https" {
		return nil
	}
	if u.Scheme != "http" {
		return fmt.Errorf("endpoint: %q is neither http nor https", u.Scheme)
	}
	port := uint64(80)
	if u.Port() != "" {
		if port, err = strconv.ParseUint(u.Port(), 10, 16); err != nil {
			return fmt.Errorf("endpoint: %q is no port", u.Port())
		}
	}
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	if u.Hostname() != "localhost" {
		a, err := netip.ParseAddr(u.Hostname())
		if err != nil {
			return fmt.Errorf("endpoint: plain HTTP needs an address, and %s is a name: write the address, or https", u.Host)
		}
		addrs = []netip.Addr{a.Unmap()}
	}
	for _, a := range addrs {
		if !a.IsLoopback() && !a.IsLinkLocalUnicast() && !metadata.Contains(a.WithZone("")) {
			return fmt.Errorf("endpoint: keys would cross a network in plain HTTP to %s: use https, or a loopback or link-local address", a)
		}
		if l.Own != nil && l.Own(netip.AddrPortFrom(a.WithZone(""), uint16(port))) {
			return errOwn
		}
	}
	return nil
}
