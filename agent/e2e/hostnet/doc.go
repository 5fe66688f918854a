// Package hostnet holds the tests of hostrole on the network of a real host:
// under systemd, beside systemd-networkd, NetworkManager, netplan and dhclient
// at work, and beside a web server. setup.sh gets what they run.
//
// # Why not
//
// Not `ip address del` alone: it is not known in advance what a network manager
// does to a link. Not the test's own network namespace: those daemons take over
// whatever they find.
package hostnet
