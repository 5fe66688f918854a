// Package systemd tells the service manager how the daemon fares.
//
// # Why not
//
// Not a datagram of our own making: go-systemd knows the socket's forms. Not
// D-Bus: a daemon that must come up before the network should not wait for a
// bus.
package systemd

import "github.com/coreos/go-systemd/v22/daemon"

// Ready says that the daemon serves; status is one line for people. It does
// nothing, and returns nil, where no service manager listens.
func Ready(status string) error { return notify(daemon.SdNotifyReady + "\nSTATUS=" + status) }

// Status replaces the line for people.
func Status(status string) error { return notify("STATUS=" + status) }

// Stopping says that the daemon has begun to end.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

func notify(state string) error {
	_, err := daemon.SdNotify(false, state)
	return err
}
