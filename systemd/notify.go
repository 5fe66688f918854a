// Package systemd tells the service manager how the daemon fares, and has it
// keep descriptors for the next process.
//
// # Why not
//
// Not a datagram of our own making where go-systemd has one: it knows the
// socket's forms; it sends no descriptors, which is why [Store] exists. Not
// D-Bus: a daemon that must come up before the network should not wait for a
// bus. Not a second process of ours that holds what must survive: it can crash
// as well, and process 1 is there anyway.
package systemd

import (
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready says that the daemon serves; status is one line for people. It does
// nothing, and returns nil, where no service manager listens.
func Ready(status string) error { return notify(daemon.SdNotifyReady + "\nSTATUS=" + status) }

// Status replaces the line for people.
func Status(status string) error { return notify("STATUS=" + status) }

// Reloading says that the daemon has begun to read its configuration again;
// Ready ends that. Both words go in one datagram: a manager that gets them
// apart takes the second for another message's.
func Reloading() error {
	return notify(daemon.SdNotifyReloading + "\n" + strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"))
}

// Stopping says that the daemon has begun to end.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

func notify(state string) error {
	_, err := daemon.SdNotify(false, state)
	return err
}
