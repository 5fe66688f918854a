package agent

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/hostaddr"
)

// A wanderer is a listener on a link that can be deleted and made anew: a socket
// stays bound to the one that is gone, so that there has to be another.
type wanderer struct {
	open func() (net.Listener, error)

	mu     sync.Mutex
	at     net.Listener // guarded by mu
	closed bool         // guarded by mu
}

// Accept is that of the listener of the moment.
func (w *wanderer) Accept() (net.Conn, error) {
	for {
		at := w.now()
		c, err := at.Accept()
		if err == nil || w.now() == at {
			return c, err
		}
	}
}

func (w *wanderer) now() net.Listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

// Addr is that of the listener.
func (w *wanderer) Addr() net.Addr { return w.now().Addr() }

// Close closes the listener for good.
func (w *wanderer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return w.at.Close()
}

// move opens the listener anew, on the link as it is now.
func (w *wanderer) move() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	l, err := w.open()
	if err != nil {
		return err
	}
	was := w.at
	w.at = l
	return was.Close()
}

// moves opens the listeners of a link anew, each time that it was made anew.
func (a *Agent) moves(ctx context.Context, link string) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.moved[link]:
		}
		for _, w := range a.wanderers[link] {
			if err := w.move(); err != nil {
				a.log.Error("a listener is deaf: its link was made anew", "link", link, logError, err.Error())
			}
		}
	}
}

// homeOf is the link on which the callers of l on this host arrive, if it is
// not lo: the kernel takes the link that has the address for where they come
// from.
func homeOf(l config.Listener) string {
	if l.ManageAddress != nil && !*l.ManageAddress || l.Link == "lo" || l.Link == "" || deviceFor(l) != "lo" {
		return ""
	}
	return l.Link
}

// provide sees to it that there are the links that sockets will be bound to.
func (a *Agent) provide() (undo func() error, err error) {
	var all []func() error
	undo = func() (err error) {
		for _, one := range all {
			err = errors.Join(err, one())
		}
		return err
	}
	for _, l := range a.current.cfg.Listeners {
		if home := homeOf(l); home != "" && a.moved[home] == nil {
			one, err := hostaddr.Provide(home)
			if err != nil {
				return undo, errors.Join(err, undo())
			}
			all = append(all, one)
			a.moved[home] = make(chan struct{}, 1)
		}
	}
	return undo, nil
}
