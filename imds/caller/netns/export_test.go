package netns

import (
	"net/netip"
	"time"

	"github.com/hostrole/hostrole/imds/caller/kernel"
)

// Hurry has e close doors that nobody uses after so long, and keep so many.
func (e *Enricher) Hurry(idle time.Duration, most int) { e.idle, e.most = idle, most }

// Doors is how many are open.
func (e *Enricher) Doors() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.doors)
}

// Read reads an answer in each of the ways in which one is read.
func Read(b []byte, question uint32) (what struct {
	Index, Master, Link uint32
	Number, Named       int32
	At                  netip.Addr
}, errs [3]error) {
	n, err := readNeighbour(kernel.Answer(b, question))
	what.Index, what.Master, what.At, errs[0] = n.index, n.master, n.at, err
	l, err := readLink(kernel.Answer(b, question))
	what.Link, what.Number, errs[1] = l.index, l.number, err
	what.Named, errs[2] = readNumber(kernel.Answer(b, question))
	return what, errs
}
