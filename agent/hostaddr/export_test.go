package hostaddr

import (
	"context"
	"io/fs"
	"net/netip"
)

const (
	LooksAtOnce = looksAtOnce
	AnotherLook = anotherLook
	QuietFor    = quietFor
	Mark        = mark
)

var (
	Label   = label
	CloudOf = cloudOf
	BackOff = backOff
)

// NewClaimOn is NewClaim on a machine with another firmware.
func NewClaimOn(ctx context.Context, o Options, firmware fs.FS) (*Claim, error) {
	return newClaim(ctx, o, firmware)
}

// A Route is a route, in words that a table can hold.
type Route struct {
	Prefix, Gateway, Source string
	Metric                  int
	Kernel                  bool
}

// Proves reports whether somebody made r because a service is there.
func Proves(r Route) bool {
	is := route{prefix: netip.MustParsePrefix(r.Prefix), metric: r.Metric, kernel: r.Kernel}
	if r.Gateway != "" {
		is.gateway = netip.MustParseAddr(r.Gateway)
	}
	if r.Source != "" {
		is.source = netip.MustParseAddr(r.Source)
	}
	return is.proves()
}

// A Tally holds back what was told a moment ago.
type Tally struct{ t tally }

func NewTally() Tally                     { return Tally{tally{}} }
func (t Tally) Add(e Event) (Event, bool) { return t.t.add(e) }
func (t Tally) Drain() []Event            { return t.t.drain() }
func (t Tally) Len() int                  { return len(t.t) }

// Subscriptions makes c's Run fail to hear the kernel as fail says, and counts
// how often it asks.
func (c *Claim) Subscriptions(fail func(time int) error) {
	asked := 0
	c.subscribe = func() (*news, error) {
		asked++
		if err := fail(asked); err != nil {
			return nil, err
		}
		return subscribe()
	}
}

// Silence makes c's Run hear nothing of the kernel.
func (c *Claim) Silence() {
	c.subscribe = func() (*news, error) { return &news{close: func() {}}, nil }
}
