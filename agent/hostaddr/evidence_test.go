package hostaddr_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hostrole/hostrole/agent/hostaddr"
)

const (
	metadataV4 = "169.254.169.254"
	metadataV6 = "fd00:ec2::254"
)

func TestRouteProves(t *testing.T) {
	for name, test := range map[string]struct {
		route hostaddr.Route
		want  bool
	}{
		"a default route proves nothing":                          {hostaddr.Route{Prefix: "0.0.0.0/0", Gateway: "192.0.2.1"}, false},
		"half of the world is a VPN's default route":              {hostaddr.Route{Prefix: "128.0.0.0/1", Gateway: "10.8.0.1"}, false},
		"a host route by a gateway is a service":                  {hostaddr.Route{Prefix: "169.254.169.254/32", Gateway: "10.0.0.1", Metric: 100}, true},
		"a host route on the link is a service":                   {hostaddr.Route{Prefix: "169.254.169.254/32"}, true},
		"a network of containers is a service":                    {hostaddr.Route{Prefix: "169.254.170.0/24", Kernel: true, Source: "169.254.170.1"}, true},
		"all link-local addresses by a gateway are a service":     {hostaddr.Route{Prefix: "169.254.0.0/16", Gateway: "10.0.0.1", Metric: 1000}, true},
		"all link-local addresses by hand are a service":          {hostaddr.Route{Prefix: "169.254.0.0/16"}, true},
		"avahi's zeroconf route proves nothing":                   {hostaddr.Route{Prefix: "169.254.0.0/16", Metric: 1000}, false},
		"zeroconf of Red Hat's scripts proves nothing":            {hostaddr.Route{Prefix: "169.254.0.0/16", Metric: 1002}, false},
		"the kernel's route for an own address proves nothing":    {hostaddr.Route{Prefix: "169.254.0.0/16", Kernel: true, Source: "169.254.3.4"}, false},
		"a DHCP client's route for an own address proves nothing": {hostaddr.Route{Prefix: "169.254.0.0/16", Metric: 205, Source: "169.254.3.4"}, false},
		"IPv6: a default route proves nothing":                    {hostaddr.Route{Prefix: "::/0", Gateway: "fe80::1"}, false},
		"IPv6: a route for all private addresses proves nothing":  {hostaddr.Route{Prefix: "fd00::/8", Gateway: "fe80::1"}, false},
		"IPv6: a host route is a service":                         {hostaddr.Route{Prefix: "fd00:ec2::254/128"}, true},
		"IPv6: a route for EC2's network is a service":            {hostaddr.Route{Prefix: "fd00:ec2::/32", Gateway: "fe80::1"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hostaddr.Proves(test.route); got != test.want {
				t.Errorf("proves(%+v) = %v, want %v", test.route, got, test.want)
			}
		})
	}
}

func firmware(pairs ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1] + "\n")}
	}
	return fsys
}

func TestCloudOf(t *testing.T) {
	for want, machines := range map[string][]fstest.MapFS{
		"Amazon EC2": {
			firmware("sys_vendor", "Amazon EC2", "product_name", "m6i.large"),
			firmware("sys_vendor", "Xen", "product_name", "HVM domU", "bios_version", "4.11.amazon"),
		},
		"Google Compute Engine": {firmware("sys_vendor", "Google", "product_name", "Google Compute Engine")},
		"Microsoft Azure":       {firmware("sys_vendor", "Microsoft Corporation", "product_name", "Virtual Machine", "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77")},
		"DigitalOcean":          {firmware("sys_vendor", "DigitalOcean", "product_name", "Droplet")},
		"OpenStack": {
			firmware("sys_vendor", "OpenStack Foundation", "product_name", "OpenStack Nova"),
			firmware("sys_vendor", "RDO", "product_name", "OpenStack Compute"),
			firmware("sys_vendor", "QEMU", "chassis_asset_tag", "OpenTelekomCloud"),
		},
		"Alibaba Cloud": {firmware("sys_vendor", "Alibaba Cloud", "product_name", "Alibaba Cloud ECS")},
		"Oracle Cloud":  {firmware("sys_vendor", "QEMU", "product_name", "Standard PC (i440FX + PIIX, 1996)", "chassis_asset_tag", "OracleCloud.com")},
		"Hetzner Cloud": {firmware("sys_vendor", "Hetzner", "product_name", "vServer")},
		"": {
			firmware(),
			firmware("sys_vendor", "Google", "product_name", "Eve"),                                                         // a laptop
			firmware("sys_vendor", "Microsoft Corporation", "product_name", "Virtual Machine", "chassis_asset_tag", "None"), // Hyper-V
			firmware("sys_vendor", "Microsoft Corporation", "product_name", "Surface Laptop 5"),
			firmware("sys_vendor", "QEMU", "product_name", "Standard PC (Q35 + ICH9, 2009)", "bios_version", ""),
			firmware("sys_vendor", "Dell Inc.", "product_name", "PowerEdge R650", "bios_version", "2.10.2"),
			firmware("sys_vendor", "VMware, Inc.", "product_name", "VMware Virtual Platform"),
		},
	} {
		for _, m := range machines {
			name, evidence := hostaddr.CloudOf(m)
			if name != want {
				t.Errorf("%v is a machine of %q, want %q", m, name, want)
			}
			if (evidence == "") != (want == "") || name != "" && !strings.Contains(evidence, "/sys/class/dmi/id/") {
				t.Errorf("%v: the evidence is %q", m, evidence)
			}
		}
	}
}

func TestLabel(t *testing.T) {
	for link, want := range map[string]string{
		"lo":              "lo:hostrole",
		"imds00":          "imds00:hostrole",
		"docker0":         "docker0:hostrol",
		"metadata1234":    "metadata1234:ho",
		"metadata1234567": "metadata1234:ho",
	} {
		got := hostaddr.Label(link)
		if got != want {
			t.Errorf("the label on %s is %q, want %q", link, got, want)
		}
		if len(got) > 15 || got == link {
			t.Errorf("the label %q on %s does not fit, or marks nothing", got, link)
		}
	}
}

func TestBackOff(t *testing.T) {
	var got []time.Duration
	for n := range 7 {
		got = append(got, hostaddr.BackOff(time.Second, n))
	}
	want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second}
	if !slices.Equal(got, want) {
		t.Errorf("waits are %v, want %v", got, want)
	}
	if got := hostaddr.BackOff(time.Second, 1<<40); got != 30*time.Second {
		t.Errorf("the wait after very many failures is %v", got)
	}
}

func TestTallyTellsOnceAndCounts(t *testing.T) {
	tally := hostaddr.NewTally()
	a, b := netip.MustParseAddr(metadataV4), netip.MustParseAddr(metadataV6)
	e := hostaddr.Event{Kind: hostaddr.PutBack, Addr: a, Link: "lo"}

	if got, now := tally.Add(e); !now || got.Count != 1 || got.Within != 0 {
		t.Errorf("the first is %+v, %v; want to hear it now", got, now)
	}
	for range 3 {
		if got, now := tally.Add(e); now {
			t.Errorf("%+v is told at once, although it just was", got)
		}
	}
	if _, now := tally.Add(hostaddr.Event{Kind: hostaddr.PutBack, Addr: b}); !now {
		t.Error("another address has to wait")
	}
	if _, now := tally.Add(hostaddr.Event{Kind: hostaddr.Lost, Addr: a}); !now {
		t.Error("another kind has to wait")
	}
	got := tally.Drain()
	if len(got) != 1 || got[0].Count != 3 || got[0].Within != hostaddr.QuietFor {
		t.Errorf("later it says %+v, want one event that counts 3", got)
	}
	if _, now := tally.Add(e); now {
		t.Error("after the count it is told at once")
	}
	if got := tally.Drain(); len(got) != 1 || got[0].Count != 1 || got[0].Within != 0 {
		t.Errorf("a single one is told as %+v", got)
	}
	if got := tally.Drain(); len(got) != 0 || tally.Len() != 0 {
		t.Errorf("%+v, and %d remembered, after a time without any", got, tally.Len())
	}
}

func TestEventString(t *testing.T) {
	a := netip.MustParseAddr(metadataV4)
	for want, e := range map[string]hostaddr.Event{
		"169.254.169.254 was removed from lo by another program, and put back":                                                                                     {Kind: hostaddr.PutBack, Addr: a, Link: "lo", Count: 1},
		"169.254.169.254 was removed from lo 57 times in 10s, and put back: another program keeps removing it; a network manager has to be told to leave lo alone": {Kind: hostaddr.PutBack, Addr: a, Link: "lo", Count: 57, Within: 10 * time.Second},
		"169.254.169.254 is not on imds0: no":                                                             {Kind: hostaddr.Lost, Addr: a, Link: "imds0", Count: 1, Err: errors.New("no")},
		"169.254.169.254 is on lo again (2 times in 10s)":                                                 {Kind: hostaddr.Restored, Addr: a, Link: "lo", Count: 2, Within: 10 * time.Second},
		"another program put 169.254.169.254 on eth0: requests may reach it instead; find it and stop it": {Kind: hostaddr.Rival, Addr: a, Link: "eth0", Count: 1},
		"if 169.254.169.254 is removed from lo, requests leave the host until it is back: no":             {Kind: hostaddr.Exposed, Addr: a, Link: "lo", Count: 1, Err: errors.New("no")},
		"the kernel's news of addresses were cut off, and are asked for again: no":                        {Kind: hostaddr.Deaf, Link: "lo", Count: 1, Err: errors.New("no")},
	} {
		if got := e.String(); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}
