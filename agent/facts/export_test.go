package facts

import (
	"net"
	"net/netip"
)

// The inner doors that tests need.
var (
	FQDN      = fqdn
	MachineID = machineID
)

// A Link is a link that is up and no loopback.
type Link struct {
	Index          int
	MAC, Kind      string
	Down, Loopback bool
	Master, Parent int
}

// An Address is one of a link.
type Address struct {
	Link            int
	Prefix          string
	HostOnly, Unfit bool
}

// Decide makes the leaves of a host.
func Decide(ls []Link, as []Address, uplinks ...int) map[string]string {
	var links []link
	for _, l := range ls {
		mac, err := net.ParseMAC(l.MAC)
		if err != nil && l.MAC != "" {
			panic(err)
		}
		links = append(links, link{l.Index, mac, !l.Down, l.Loopback, l.Kind, l.Master, l.Parent})
	}
	var addrs []address
	for _, a := range as {
		addrs = append(addrs, address{a.Link, netip.MustParsePrefix(a.Prefix), a.HostOnly, a.Unfit})
	}
	return leavesOf(interfaces(links, addrs, uplinks))
}
