// Package ingress serves listeners on the devices that their callers arrive on,
// as these come and go.
//
// # Why not
//
// Not one socket for all devices: what tells callers behind a bridge from
// neighbours on the network is that each socket is bound to one device. Not a
// socket that is kept for a device of the same name: it stays bound to the one
// that is gone, and hears nothing from the next.
package ingress

import (
	"slices"
	"strings"
)

// A Device is a link of this host.
type Device struct {
	Name  string
	Index int // which no other link gets, whatever its name
	// Leads reports whether callers of this host alone may be behind it: its
	// other end is in another network namespace, or it is a bridge to nothing
	// but such links and virtual machines.
	Leads bool
}

// Comes reports whether an ingress means devices that may come and go: any but
// lo, and but "", which stands for all.
func Comes(ingress string) bool { return ingress != "" && ingress != "lo" }

// Pattern reports whether an ingress means all devices whose names begin alike,
// and not one.
func Pattern(ingress string) bool { return strings.HasSuffix(ingress, "*") }

// Names reports whether an ingress means the devices of a name.
func Names(ingress, device string) bool {
	if beginning, ok := strings.CutSuffix(ingress, "*"); ok {
		return device != "" && device != "lo" && strings.HasPrefix(device, beginning)
	}
	return ingress == device
}

// means reports whether an ingress means d. A pattern means no way out of this
// host, such as eth0, however it is written.
func means(ingress string, d Device) bool {
	return Names(ingress, d.Name) && (d.Leads || !Pattern(ingress))
}

// most is how many devices one Berth has at most. Each of their sockets takes
// one of the places of its server.
const most = 256

// choose returns the devices of the Berth, sorted by their names, and how many
// there are too many.
func (b *Berth) choose(all []Device) (chosen []Device, over int) {
	for _, d := range all {
		if means(b.Ingress, d) && !slices.ContainsFunc(b.Before, func(other string) bool { return means(other, d) }) {
			chosen = append(chosen, d)
		}
	}
	slices.SortFunc(chosen, func(x, y Device) int { return strings.Compare(x.Name, y.Name) })
	over = max(0, len(chosen)-most)
	return chosen[:len(chosen)-over], over
}
