// Package machine boots a copy of the machine that a test runs on, with a real
// systemd as process 1: a copy-on-write overlay of its own root in
// systemd-nspawn. It is up in half a second, and writes to no file of the
// machine.
//
// # Why not
//
// Not a virtual machine: its kernel takes a quarter of a minute to boot without
// the help of a processor. Not an image from a registry: what the tests need is
// installed here, and a mirror need not be there. Not the machine's own
// systemd: a test machine often has none, and its owner needs it.
package machine
