//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/hostrole/hostrole/imds/imdstest"
)

const metadataHost6 = "fd00:ec2::254"

// bothFamilies is a listener on both addresses.
const bothFamilies = `[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80", "[fd00:ec2::254]:80"]
`

// on is a client of the metadata service at one address.
func on(address string) imdstest.Client {
	return imdstest.Client{Host: strings.TrimSuffix(address, ":80"), Dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	}}
}

var (
	overIPv4 = on("169.254.169.254:80")
	overIPv6 = on("[fd00:ec2::254]:80")
)

// serves reports whether a client gets a token and a credential.
func serves(t testing.TB, c imdstest.Client) bool {
	token, err := c.Token(t.Context(), 60)
	if err != nil {
		return false
	}
	a, err := c.Get(t.Context(), token, "/latest/meta-data/iam/security-credentials/app")
	return err == nil && a.Status == 200
}

// One listener has both addresses: a token of one is good on the other, and
// what happens to lo heals.
func TestIPv6(t *testing.T) {
	before := snapshot(t)
	d := startHostrole(t, simple(t, anybody+bothFamilies))
	d.credential(t, "app")
	if !serves(t, overIPv6) {
		t.Fatal("no credential over IPv6")
	}
	for _, pair := range [][2]imdstest.Client{{overIPv4, overIPv6}, {overIPv6, overIPv4}} {
		token, err := pair[0].Token(t.Context(), 60)
		if err != nil {
			t.Fatal(err)
		}
		a, err := pair[1].Get(t.Context(), token, "/latest/meta-data/placement/region")
		if err != nil || a.Status != 200 || string(a.Body) != "eu-central-1" {
			t.Errorf("a token of %s on %s: %d %q %v", pair[0].Host, pair[1].Host, a.Status, a.Body, err)
		}
	}

	ip(t, "link", "set", "lo", "down")
	ip(t, "link", "set", "lo", "up")
	d.await(t, "answers on both after lo was down", 5*time.Second, func() bool { return serves(t, overIPv4) && serves(t, overIPv6) })
	d.stop(t)
	if after := snapshot(t); after != before {
		t.Errorf("the host is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// Without IPv6 in the kernel the daemon starts all the same, says what is
// missing, and serves IPv6 as soon as there is some.
func TestWithoutIPv6(t *testing.T) {
	const knob = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
	set := func(value string) {
		t.Helper()
		if err := os.WriteFile(knob, []byte(value), 0o600); err != nil {
			ownnet.Missing(t, "a way to switch IPv6 off: %v", err)
		}
	}
	set("1")
	defer set("0")
	if v6, err := net.InterfaceAddrs(); err != nil || slices.ContainsFunc(v6, func(a net.Addr) bool { return strings.Contains(a.String(), ":") }) {
		t.Fatalf("IPv6 is not off: %v %v", v6, err)
	}
	d := startHostrole(t, simple(t, anybody+bothFamilies))
	d.credential(t, "app")
	said := slices.ContainsFunc(lines(d.out.since(0)), func(l logLine) bool {
		return (l.Level == "ERROR" || l.Level == "WARN") && strings.Contains(l.Msg+l.Error, metadataHost6)
	})
	if !said {
		t.Error("the log does not say that the IPv6 address is missing")
	}
	set("0")
	d.await(t, "answers over IPv6 once there is some", 40*time.Second, func() bool { return serves(t, overIPv6) })
}

// A logLine is what these tests look for in hostrole's log.
type logLine struct {
	Level, Msg, Error string
}

func lines(log string) (all []logLine) {
	for line := range strings.Lines(log) {
		var l logLine
		if json.Unmarshal([]byte(line), &l) == nil {
			all = append(all, l)
		}
	}
	return all
}
