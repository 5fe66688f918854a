package facts_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/agent/facts"
)

const (
	macA, macB, macC = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"

	dirA = "network/interfaces/macs/" + macA + "/"
	dirB = "network/interfaces/macs/" + macB + "/"
)

func TestLeavesOfAnInterface(t *testing.T) {
	got := facts.Decide([]facts.Link{{Index: 2, MAC: "02:00:00:00:00:0A", Kind: "device"}}, []facts.Address{
		{Link: 2, Prefix: "10.1.2.3/24"}, {Link: 2, Prefix: "10.9.0.1/16"},
		{Link: 2, Prefix: "2001:db8:1::5/64"}, {Link: 2, Prefix: "2001:db8:1::6/64"}, {Link: 2, Prefix: "fd12::1/48"},
		{Link: 2, Prefix: "fe80::1/64"}, {Link: 2, Prefix: "169.254.7.7/16"}, {Link: 2, Prefix: "169.254.169.254/32"}, {Link: 2, Prefix: "fd00:ec2::254/128"},
		{Link: 2, Prefix: "10.9.9.9/24", HostOnly: true}, {Link: 2, Prefix: "2001:db8:1::bad/64", Unfit: true},
	})
	want := map[string]string{
		"mac": macA, "local-ipv4": "10.1.2.3", "ipv6": "2001:db8:1::5",
		dirA + "mac": macA, dirA + "device-number": "0", dirA + "local-ipv4s": "10.1.2.3\n10.9.0.1", dirA + "subnet-ipv4-cidr-block": "10.1.2.0/24",
		dirA + "ipv6s": "2001:db8:1::5\n2001:db8:1::6\nfd12::1", dirA + "subnet-ipv6-cidr-blocks": "2001:db8:1::/64\nfd12::/48",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the leaves differ (-want +got):\n%s", diff)
	}
}

func TestInterfacesOfAnInstance(t *testing.T) {
	a := facts.Link{Index: 2, MAC: macA, Kind: "device"}
	with := func(l facts.Link, edit func(*facts.Link)) facts.Link { edit(&l); return l }
	v4 := []facts.Address{{Link: 2, Prefix: "10.0.0.1/24"}}
	const port = 7 // of hardware, without an address
	hardware := facts.Link{Index: port, MAC: macB, Kind: "device"}
	for name, c := range map[string]struct {
		links   []facts.Link
		addrs   []facts.Address
		uplinks []int
		want    string // mac
	}{
		"hardware":                                {[]facts.Link{a}, v4, nil, macA},
		"hardware without an address":             {[]facts.Link{a}, nil, nil, ""},
		"hardware that is down":                   {[]facts.Link{with(a, func(l *facts.Link) { l.Down = true })}, v4, nil, ""},
		"loopback":                                {[]facts.Link{with(a, func(l *facts.Link) { l.Loopback, l.MAC = true, "00:00:00:00:00:00" })}, v4, []int{2}, ""},
		"a tunnel that is the way out":            {[]facts.Link{with(a, func(l *facts.Link) { l.MAC, l.Kind = "", "wireguard" })}, v4, []int{2}, ""},
		"InfiniBand":                              {[]facts.Link{with(a, func(l *facts.Link) { l.MAC = "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33" })}, v4, []int{2}, ""},
		"a dummy":                                 {[]facts.Link{with(a, func(l *facts.Link) { l.Kind = "dummy" })}, v4, nil, ""},
		"a veth of a guest":                       {[]facts.Link{with(a, func(l *facts.Link) { l.Kind = "veth" })}, v4, nil, ""},
		"the veth of a container":                 {[]facts.Link{with(a, func(l *facts.Link) { l.Kind = "veth" })}, v4, []int{2}, macA},
		"a bridge for guests":                     {[]facts.Link{with(a, func(l *facts.Link) { l.Kind = "bridge" }), {Index: 8, MAC: macC, Kind: "veth", Master: 2}}, v4, nil, ""},
		"a bridge with a hardware port":           {[]facts.Link{with(a, func(l *facts.Link) { l.Kind = "bridge" }), with(hardware, func(l *facts.Link) { l.Master = 2 })}, v4, nil, macA},
		"a bridge on a bond":                      {[]facts.Link{with(a, func(l *facts.Link) { l.Kind = "bridge" }), {Index: 5, MAC: macC, Kind: "bond", Master: 2}, with(hardware, func(l *facts.Link) { l.Master = 5 })}, v4, nil, macA},
		"a port that has an address all the same": {[]facts.Link{with(a, func(l *facts.Link) { l.Master = 9 })}, v4, nil, ""},
		"a VLAN on hardware":                      {[]facts.Link{with(a, func(l *facts.Link) { l.Kind, l.Parent = "vlan", port }), hardware}, v4, nil, macA},
		"a VLAN on a guests' bridge":              {[]facts.Link{with(a, func(l *facts.Link) { l.Kind, l.Parent = "vlan", 3 }), {Index: 3, MAC: macC, Kind: "bridge"}}, v4, nil, ""},
		"a macvlan of another namespace's":        {[]facts.Link{with(a, func(l *facts.Link) { l.Kind = "macvlan" })}, v4, nil, ""},
		"two that stand on each other":            {[]facts.Link{with(a, func(l *facts.Link) { l.Kind, l.Parent = "vlan", 3 }), {Index: 3, MAC: macB, Kind: "vlan", Parent: 2}}, v4, nil, ""},
	} {
		got := facts.Decide(c.links, c.addrs, c.uplinks...)
		if got["mac"] != c.want || (c.want == "") != (len(got) == 0) {
			t.Errorf("%s: the leaves are %q, want those of %q", name, got, c.want)
		}
	}
}

func TestOrderOfInterfaces(t *testing.T) {
	links := []facts.Link{{Index: 4, MAC: macB, Kind: "device"}, {Index: 2, MAC: macA, Kind: "device"}, {Index: 9, MAC: macA, Kind: "vlan", Parent: 2}}
	addrs := []facts.Address{{Link: 9, Prefix: "10.9.0.1/24"}, {Link: 4, Prefix: "10.4.0.1/24"}, {Link: 2, Prefix: "10.2.0.1/24"}}
	for name, c := range map[string]struct {
		uplinks                []int
		mac, ipv4, a, b, ipv4s string
	}{
		"without a way out the kernel's":        {nil, macA, "10.2.0.1", "0", "1", "10.2.0.1\n10.9.0.1"},
		"the way out comes first":               {[]int{4, 2}, macB, "10.4.0.1", "1", "0", "10.2.0.1\n10.9.0.1"},
		"its address comes first of shared MAC": {[]int{9}, macA, "10.9.0.1", "0", "1", "10.9.0.1\n10.2.0.1"},
		"a way out that is none of ours":        {[]int{77}, macA, "10.2.0.1", "0", "1", "10.2.0.1\n10.9.0.1"},
	} {
		got := facts.Decide(links, addrs, c.uplinks...)
		if got["mac"] != c.mac || got["local-ipv4"] != c.ipv4 || got[dirA+"device-number"] != c.a || got[dirB+"device-number"] != c.b || got[dirA+"local-ipv4s"] != c.ipv4s {
			t.Errorf("%s: %q", name, got)
		}
		if v, ok := got["ipv6"]; ok {
			t.Errorf("%s: ipv6 is %q without one", name, v)
		}
	}
	only6 := facts.Decide(links[1:2], []facts.Address{{Link: 2, Prefix: "2001:db8::1/64"}})
	if v, ok := only6["local-ipv4"]; ok || only6["ipv6"] != "2001:db8::1" {
		t.Errorf("with IPv6 alone: local-ipv4 %q, ipv6 %q", v, only6["ipv6"])
	}
}
