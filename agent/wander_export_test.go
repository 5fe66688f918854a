package agent

import "net"

// A Wanderer is a listener that can be opened anew.
type Wanderer struct{ *wanderer }

// NewWanderer is one that open has opened.
func NewWanderer(open func() (net.Listener, error)) (Wanderer, error) {
	l, err := open()
	return Wanderer{&wanderer{at: l, open: open}}, err
}

// Move opens it anew.
func (w Wanderer) Move() error { return w.move() }
