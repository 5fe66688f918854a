package pulse_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/pulse"
)

var start = time.Now()

// boot is a clock that an hour ago was at 0.
func boot() time.Duration { return time.Since(start) + time.Hour }

// gates is a listener whose Accept returns when the test says so.
type gates struct {
	net.Listener
	entered chan struct{}
	let     chan error
}

func (g gates) Accept() (net.Conn, error) {
	g.entered <- struct{}{}
	return nil, <-g.let
}

func TestListenerThatNobodyServesHasNoPulse(t *testing.T) {
	g := gates{entered: make(chan struct{}), let: make(chan error)}
	p := pulse.New(g, boot)
	var all pulse.Set
	all.Add(p)
	soon := func() time.Duration { return boot() + time.Second }
	late := func() time.Duration { return boot() + time.Hour }
	check := func(when string, now time.Duration, want bool) {
		t.Helper()
		if got := all.Beating(now, 2*time.Second); got != want {
			t.Errorf("%s: %t", when, got)
		}
	}
	check("before it is served", soon(), true)
	check("never served", late(), false)
	returned := make(chan error)
	go func() {
		_, err := p.Accept()
		returned <- err
	}()
	<-g.entered
	check("no caller for an hour", late(), true)
	g.let <- errors.New("a caller")
	<-returned
	check("a caller was taken a moment ago", soon(), true)
	check("nothing was taken for an hour", late(), false)
	all.Remove(p)
	check("it is served no longer", late(), true)
}

func TestWithoutListenersThereIsNothingToMiss(t *testing.T) {
	if none := (&pulse.Set{}); !none.Beating(time.Hour, 0) {
		t.Error("no listener is taken for one that hangs")
	}
}
