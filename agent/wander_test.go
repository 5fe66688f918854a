package agent_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent"
)

func TestListenerMoves(t *testing.T) {
	t.Parallel()
	open := func() (net.Listener, error) { return (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0") }
	w, err := agent.NewWanderer(open)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error)
	go func() {
		for {
			c, err := w.Accept()
			if err == nil {
				err = c.Close()
			}
			accepted <- err
			if err != nil {
				return
			}
		}
	}()
	dial := func() error {
		c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp4", w.Addr().String())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return <-accepted
	}
	for round := range 3 { // it waits for connections while it moves
		if err := dial(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		was := w.Addr().String()
		if err := w.Move(); err != nil {
			t.Fatal(err)
		}
		if is := w.Addr().String(); is == was {
			t.Errorf("round %d: it is on %s still", round, is)
		}
		if c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp4", was); err == nil {
			_ = c.Close()
			t.Errorf("round %d: the old one is open", round)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after its end: %v", err)
	}
	if err := w.Move(); err != nil {
		t.Errorf("moving after its end: %v", err)
	}
	if c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp4", w.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("it has come back after its end")
	}
}
