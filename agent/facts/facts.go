// Package facts is what this host says of itself: the values of templates and
// of the metadata tree.
//
// # Why not
//
// Not DNS for the full name: a daemon must start without it. Not the machine
// id itself: machine-id(5) forbids to show it on a network. Not a goroutine
// that follows the interfaces: nobody asks for them most of the time. Not
// package net for them: it cannot tell hardware from a bridge, and reads all
// addresses once for each interface.
package facts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
)

// A Host is what was read of this host. It never changes.
type Host struct {
	Hostname  string // without domain
	FQDN      string // with domain where one is known
	MachineID string // 32 hexadecimal digits, derived; see machineID
}

// appID is hostrole's own application id; it never changes.
const appID = "6a1f0c52f7a84f3e9d0b3c5e7b1d9a24"

// Read reads them. What cannot be read has a value that is derived from the
// rest.
func Read() Host {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	hosts, _ := os.ReadFile("/etc/hosts")
	id, _ := os.ReadFile("/etc/machine-id")
	f := Host{FQDN: fqdn(name, string(hosts)), MachineID: machineID(string(id), name)}
	f.Hostname, _, _ = strings.Cut(name, ".")
	return f
}

// fqdn is name itself when it has a domain, or the longer name that the hosts
// file gives it. DNS is not asked: a daemon must start without it.
func fqdn(name, hosts string) string {
	if strings.Contains(name, ".") {
		return name
	}
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		names := strings.Fields(line)
		for _, n := range names[min(1, len(names)):] {
			if strings.HasPrefix(n, name+".") && n != name+".localdomain" {
				return n
			}
		}
	}
	return name
}

// machineID derives an id of this machine that may be shown on a network,
// which machine-id(5) forbids for the original. It is the one that
//
//	systemd-id128 machine-id --app-specific=6a1f0c52f7a84f3e9d0b3c5e7b1d9a24
//
// prints. A host without a machine id is named by its hostname.
func machineID(raw, hostname string) string {
	key, err := hex.DecodeString(strings.TrimSpace(raw))
	if err != nil || len(key) != 16 {
		key = []byte(hostname)
	}
	app, _ := hex.DecodeString(appID)
	mac := hmac.New(sha256.New, key)
	mac.Write(app)
	id := mac.Sum(nil)[:16]
	id[6] = id[6]&0x0f | 0x40 // a version 4 UUID, as systemd makes it
	id[8] = id[8]&0x3f | 0x80
	return hex.EncodeToString(id)
}

// InstanceID has EC2's form and stays the same for a machine.
func (f Host) InstanceID() string {
	sum := sha256.Sum256([]byte("instance-id\x00" + f.MachineID))
	return "i-" + hex.EncodeToString(sum[:])[:17]
}

// Render fills a template of {hostname}, {fqdn}, {machine_id} and {role}. What
// else it holds is left alone.
func (f Host) Render(template, role string) string {
	return strings.NewReplacer("{hostname}", f.Hostname, "{fqdn}", f.FQDN, "{machine_id}", f.MachineID, "{role}", role).Replace(template)
}

// SessionName makes a text fit for RoleSessionName and SourceIdentity: 2 to 64
// characters of [\w+=,.@-]. What is too long is cut and ends in a hash of the
// whole, so that two long names stay two.
func SessionName(text string) string {
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_+=,.@-", r)) {
			return r
		}
		return '-'
	}, text)
	if len(name) > 64 {
		sum := sha256.Sum256([]byte(text))
		name = name[:55] + "-" + hex.EncodeToString(sum[:4])
	}
	for len(name) < 2 {
		name += "-"
	}
	return name
}
