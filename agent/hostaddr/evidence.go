package hostaddr

import (
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strings"
)

// A route leads off this host.
type route struct {
	prefix  netip.Prefix // what it is for; all addresses when it is the default route
	gateway netip.Addr   // zero for neighbours on the link
	source  netip.Addr   // the own address that it prefers; zero for none
	link    string
	metric  int
	kernel  bool // made by the kernel for an address of the link
}

func (r route) String() string {
	s := r.prefix.String()
	if r.gateway.IsValid() {
		s += " via " + r.gateway.String()
	}
	return s + " dev " + r.link
}

var zeroconf = netip.MustParsePrefix("169.254.0.0/16")

// zeroconfMetric is the least metric that programs give to a route for hosts
// which have no address but one of their own choice.
const zeroconfMetric = 1000

// proves reports whether somebody made r because a service is there. A default
// route proves nothing, and neither does one for half of the world, as VPNs
// have. Whatever is more particular does, with one exception: ordinary hosts
// have all of 169.254.0.0/16 on a link, without a gateway, so that they can
// speak to neighbours without DHCP. Those routes are told by the metric of
// 1000 and more that avahi, systemd-networkd and the network scripts of Red
// Hat give them, or by the host's own address in that network. The same route
// made by hand, or through a gateway, is for a metadata service.
func (r route) proves() bool {
	bits := r.prefix.Bits()
	if r.prefix.Addr().Is6() {
		return bits >= 32
	}
	if r.prefix == zeroconf && !r.gateway.IsValid() {
		return r.metric < zeroconfMetric && !r.kernel && !zeroconf.Contains(r.source)
	}
	return bits >= 16
}

// dmi is where Linux shows what the firmware says of the machine.
const dmi = "/sys/class/dmi/id"

// clouds are what firmware says on the machines of those who run a metadata
// service: the file, how its content begins or ends, the name. Vendors that
// also make laptops or hypervisors for everyone (Google, Microsoft) are told
// by something else than their name.
var clouds = []struct{ file, prefix, suffix, name string }{
	{"sys_vendor", "Amazon EC2", "", "Amazon EC2"},
	{"bios_version", "", ".amazon", "Amazon EC2"}, // on Xen
	{"product_name", "Google Compute Engine", "", "Google Compute Engine"},
	{"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "", "Microsoft Azure"},
	{"sys_vendor", "DigitalOcean", "", "DigitalOcean"},
	{"sys_vendor", "OpenStack", "", "OpenStack"},
	{"product_name", "OpenStack", "", "OpenStack"}, // distributions of it have vendors of their own
	{"chassis_asset_tag", "OpenTelekomCloud", "", "OpenStack"},
	{"sys_vendor", "Alibaba Cloud", "", "Alibaba Cloud"},
	{"chassis_asset_tag", "OracleCloud.com", "", "Oracle Cloud"},
	{"sys_vendor", "Hetzner", "", "Hetzner Cloud"},
	{"sys_vendor", "Vultr", "", "Vultr"},
	{"sys_vendor", "UpCloud", "", "UpCloud"},
	{"product_name", "Exoscale", "", "Exoscale"},
}

// cloudOf returns the name of the cloud whose machine this is by its firmware,
// and what says so; "" for none. What cannot be read says nothing: many
// machines have no such files.
func cloudOf(firmware fs.FS) (name, evidence string) {
	for _, c := range clouds {
		if says := firstLine(firmware, c.file); says != "" && strings.HasPrefix(says, c.prefix) && strings.HasSuffix(says, c.suffix) {
			return c.name, fmt.Sprintf("%s/%s is %q", dmi, c.file, says)
		}
	}
	return "", ""
}

func firstLine(firmware fs.FS, name string) string {
	f, err := firmware.Open(name)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 256)) // the kernel has a page at most; this is not its length but ours
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// shadowError is why a must not be claimed, given the route that leads to it,
// or nil. What the firmware says counts only because there is such a route: a
// network namespace without one reaches no service, whatever the machine.
func shadowError(a netip.Addr, r route, firmware fs.FS) error {
	because := ""
	if r.proves() {
		because = fmt.Sprintf("the route %v leads there", r)
	} else if name, evidence := cloudOf(firmware); name != "" {
		because = fmt.Sprintf("this is a machine of %s (%s), and the route %v reaches its service", name, evidence, r)
	}
	if because == "" {
		return nil
	}
	return fmt.Errorf("claiming %v: %w: %s; programs on this host may need that service; set allow_shadow = true to hide it from them", a, ErrShadow, because)
}
