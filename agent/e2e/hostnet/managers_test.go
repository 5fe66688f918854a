//go:build linux

package hostnet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/e2e/machine"
)

func network(link, address, more string) string {
	return "[Match]\nName=" + link + "\n[Network]\nAddress=" + address + "\n" + more
}

// systemd-networkd configures lo, the link that carries the address, and another
// one; it is loaded anew, restarted, and told to take the link down and away.
func TestAddressEnduresNetworkd(t *testing.T) {
	m := boot(t, machine.Options{Packages: managers(t), Files: map[string]string{
		"/etc/systemd/network/10-eth0.network":     network("eth0", "192.0.2.10/24", ""),
		"/etc/systemd/network/10-peer0.network":    network("peer0", "198.51.100.1/24", "DHCPServer=yes\n"),
		"/etc/systemd/network/20-lo.network":       network("lo", "10.99.0.1/32", "KeepConfiguration=no\n"),
		"/etc/systemd/network/20-hostrole.network": network("hostrole0", "10.98.0.1/24", "KeepConfiguration=no\n"),
	}})
	for _, link := range []string{"lo", "hostrole0"} { // dhclient is on neither of them
		removals := endure(t, m, link, []change{
			do("networkd starts", "systemctl start systemd-networkd"),
			do("networkctl reload", "touch /etc/systemd/network/20-lo.network", "networkctl reload"),
			do("networkctl reconfigure", "networkctl reconfigure lo eth0 "+link),
			do("networkd restarts", "systemctl restart systemd-networkd"),
			do("the link goes down and up", "ip link set "+link+" down", "ip link set "+link+" up"),
			do("all addresses are flushed", "ip addr flush dev "+link+" to 169.254.0.0/16", "ip -6 addr flush dev "+link+" to fd00:ec2::/64"),
			do("dhclient gets a lease, and gives it back", "dhclient -1 -pf /run/dhclient.pid -lf /run/dhclient.leases eth0", "dhclient -r -pf /run/dhclient.pid -lf /run/dhclient.leases eth0"),
			do("networkd stops", "systemctl stop systemd-networkd systemd-networkd.socket"),
		})
		if removals == 0 {
			t.Errorf("nobody took an address off %s: this test shows nothing", link)
		}
	}
	t.Run("the link is deleted", func(t *testing.T) {
		m.Run(t, "systemctl", "start", "systemd-networkd")
		endure(t, m, "hostrole0", []change{do("networkctl delete", "networkctl delete hostrole0")})
		m.Run(t, "systemctl", "stop", "systemd-networkd", "systemd-networkd.socket")
	})
	t.Run("netplan", func(t *testing.T) {
		m.Write(t, "/etc/netplan/10-host.yaml", "network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    eth0: {addresses: [192.0.2.11/24]}\n"+
			"    lo: {addresses: [10.97.0.1/32]}\n  bridges:\n    hostrole0: {addresses: [10.96.0.1/24]}\n")
		m.Run(t, "chmod", "600", "/etc/netplan/10-host.yaml")
		m.Run(t, "ln", "-s", "/bin/true", "/usr/local/sbin/udevadm") // a container has no devices to be told of
		m.Run(t, "rm", "-r", "/etc/systemd/network")
		apply := do("netplan apply", "netplan apply")
		endure(t, m, "hostrole0", []change{apply, do("netplan apply, after a change", "sed -i s/10.9[67].0/10.95.0/ /etc/netplan/10-host.yaml", "netplan apply")})
		endure(t, m, "lo", []change{apply}) // the other link went with hostrole, and netplan makes its own
		if shown := m.Run(t, "ip", "addr"); !strings.Contains(shown, "192.0.2.11/24") {
			t.Errorf("netplan has done nothing: %s", shown)
		}
	})
}

// NetworkManager manages lo, and the link that carries the address: its
// connections go up and down, it restarts, and networking is switched off.
func TestAddressEnduresNetworkManager(t *testing.T) {
	m := boot(t, machine.Options{Packages: managers(t), Files: map[string]string{
		"/etc/NetworkManager/conf.d/hostnet.conf": "[main]\nno-auto-default=*\n[keyfile]\nunmanaged-devices=interface-name:eth0;interface-name:peer0\n",
	}})
	for _, link := range []string{"lo", "hostrole0"} {
		add := "nmcli connection add con-name mine ifname lo type loopback ipv4.method manual ipv4.addresses 127.0.0.1/8,10.95.0.1/32"
		if link == "hostrole0" {
			add = "nmcli connection add con-name mine ifname hostrole0 type bridge stp no ipv4.method manual ipv4.addresses 10.94.0.1/24 ipv6.method disabled"
		}
		removals := endure(t, m, link, []change{
			do("NetworkManager starts", "systemctl start NetworkManager", "nmcli -w 5 general status"),
			do("a connection is added, and goes up", "nmcli device set "+link+" managed yes", add, "nmcli connection up mine"),
			do("the device is applied again", "nmcli device reapply "+link),
			do("the connection goes up again", "nmcli connection up mine"),
			do("NetworkManager restarts", "systemctl restart NetworkManager", "nmcli -w 5 general status"),
			do("the connection is changed, and goes up", "nmcli connection modify mine +ipv4.addresses 10.93.0.1/32", "nmcli connection up mine"),
			do("networking off and on", "nmcli networking off", "nmcli networking on"),
			do("the connection goes down and is deleted", "nmcli connection delete mine"),
			do("NetworkManager stops", "systemctl stop NetworkManager"),
		})
		if removals == 0 {
			t.Errorf("NetworkManager took no address off %s: this test shows nothing", link)
		}
	}
	eventually(t, "stop leaves no trace", 20*time.Second, func() bool { return !strings.Contains(m.Run(t, "ip", "addr"), "169.254.169.254") })
}
