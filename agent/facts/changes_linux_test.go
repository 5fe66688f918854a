package facts_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hostrole/hostrole/agent/facts"
)

// What comes together is told together; what is the same is not told.
func TestChanges(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan time.Time, 99), make(chan error, 1)
	go func() { done <- facts.Changes(ctx, facts.All, 200*time.Millisecond, func() { told <- time.Now() }) }()
	one := func(what string) {
		t.Helper()
		select {
		case <-told:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s was not told", what)
		}
	}
	none := func(what string) {
		t.Helper()
		select {
		case <-told:
			t.Fatalf("%s was told", what)
		case <-time.After(time.Second):
		}
	}
	// The socket is there once a change is told.
	for i := 0; len(told) == 0; i++ {
		h.add(fmt.Sprintf("10.9.0.%d/32", i+1))
		pace := time.NewTimer(50 * time.Millisecond)
		<-pace.C
	}
	for calm := false; !calm; { // the links' own IPv6 addresses come late
		select {
		case <-told:
		case <-time.After(2 * time.Second):
			calm = true
		}
	}
	for i := range 100 {
		h.add(fmt.Sprintf("10.9.1.%d/32", i+1))
	}
	one("a burst")
	if len(told) > 1 {
		t.Errorf("a burst was told %d times more", len(told))
	}
	for len(told) > 0 {
		<-told
	}
	none("what was told before")
	h.add("10.1.2.3/24")
	one("an address")
	h.do(netlink.RouteAdd(h.route()))
	one("a route")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Who asks for links hears nothing of addresses and routes.
func TestChangesOfLinks(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan struct{}, 99), make(chan error, 1)
	go func() { done <- facts.Changes(ctx, facts.Links, time.Millisecond, func() { told <- struct{}{} }) }()
	for i := 0; len(told) == 0; i++ { // the socket is there once a change is told
		if i > 200 {
			t.Fatal("no link was told")
		}
		toggle(t, i%2 == 0)
		<-time.After(50 * time.Millisecond)
	}
	toggle(t, true)
	for calm := false; !calm; {
		select {
		case <-told:
		case <-time.After(2 * time.Second):
			calm = true
		}
	}
	h.add("10.9.2.1/24")
	select {
	case <-told:
		t.Error("an address was told")
	case <-time.After(time.Second):
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// toggle has a link for nothing else go up or down.
func toggle(t *testing.T, up bool) {
	t.Helper()
	l, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	set := netlink.LinkSetDown
	if up {
		set = netlink.LinkSetUp
	}
	if err := set(l); err != nil {
		t.Fatal(err)
	}
}
