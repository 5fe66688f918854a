package ingress

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// attempts bound how often a list is begun again that changed under way.
const attempts = 4

// Devices are those of this host.
func Devices() (all []Device, err error) {
	var links []netlink.Link
	for range attempts {
		if links, err = netlink.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listing the links: %w", err)
	}
	leavesHost := map[int]bool{} // bridges with a network card, or what may lead to one
	for _, l := range links {
		if a := l.Attrs(); a.MasterIndex != 0 && a.NetNsID < 0 && l.Type() != "tuntap" && l.Type() != "dummy" {
			leavesHost[a.MasterIndex] = true
		}
	}
	for _, l := range links {
		a := l.Attrs()
		all = append(all, Device{Name: a.Name, Index: a.Index, Leads: a.NetNsID >= 0 || l.Type() == "bridge" && !leavesHost[a.Index]})
	}
	return all, nil
}
