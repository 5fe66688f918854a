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
	go func() { done <- facts.Changes(ctx, 200*time.Millisecond, func() { told <- time.Now() }) }()
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
