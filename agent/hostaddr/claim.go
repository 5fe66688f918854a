package hostaddr

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"time"
)

// A holding is an address of a claim.
type holding struct {
	addr    netip.Addr
	why     error  // why it is not on the host; nil while it is
	tried   bool   // it was put there, or tried to
	rival   string // the link on which another program has it; "" for none
	exposed error  // why its fence is not there
}

// A Claim holds addresses on the host. It may be used concurrently.
type Claim struct {
	o         Options
	subscribe func() (*news, error)

	mu       sync.Mutex
	holdings []*holding // guarded by mu: what is in them
	link     link       // guarded by mu: as it was seen last
	released bool       // guarded by mu: nothing is put on the host any more
	gone     bool       // guarded by mu: nothing of it is on the host any more
}

// NewClaim puts the addresses on the host. It refuses, and touches nothing,
// when one of them is in use ([ErrHeld]), or hides a real metadata service
// ([ErrShadow]), or when the capability is missing ([os.ErrPermission]).
// Otherwise each address is independent of the others: an error is returned
// only when none could be put on the host, which then is as it was before.
// Those that could not are in Lost, and Run keeps trying.
//
// An address that a crash has left over is taken for its own. On other systems
// than Linux the error is [errors.ErrUnsupported].
func NewClaim(ctx context.Context, o Options) (*Claim, error) {
	return newClaim(ctx, o, os.DirFS(dmi))
}

func newClaim(ctx context.Context, o Options, firmware fs.FS) (*Claim, error) {
	o, err := o.settle()
	if err != nil {
		return nil, err
	}
	c := &Claim{o: o, subscribe: subscribe}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range o.Addrs {
		if err := context.Cause(ctx); err != nil {
			return nil, fmt.Errorf("claiming %v: %w", a, err)
		}
		if err := refusal(a, o.AllowShadow, firmware); err != nil {
			return nil, err
		}
		c.holdings = append(c.holdings, &holding{addr: a})
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	c.await(ctx)
	for _, h := range c.holdings {
		if h.why != nil {
			o.Observe(Event{Kind: Lost, Addr: h.addr, Link: o.Link, Count: 1, Err: h.why})
		}
	}
	return c, nil
}

// patience is how long the kernel is waited for after it took an address. It
// needs a millisecond.
const patience = 100 * time.Millisecond

// await waits until the addresses can be reached: the kernel adds the route to
// an IPv6 address in its own time. On a link that is down it adds none, so
// that it is no error if that does not happen. It has c.mu.
func (c *Claim) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(patience / 100)
	defer tick.Stop()
	for _, h := range c.holdings {
		for h.why == nil && !isLocal(h.addr) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// refusal is why a must not be put on the host, or nil. Not to know is one.
func refusal(a netip.Addr, shadow bool, firmware fs.FS) error {
	places, err := findAddress(a)
	if err != nil {
		return err
	}
	for _, p := range places {
		if !p.ours {
			return heldError(a, p)
		}
	}
	if len(places) > 0 || shadow {
		return nil
	}
	r, there, err := routeTo(a)
	if err != nil || !there {
		return err
	}
	return shadowError(a, r, firmware)
}

// begin puts all addresses on the host for the first time, or leaves it as it
// was. It has c.mu.
func (c *Claim) begin() error {
	l, err := findLink(c.o.Link)
	made := errors.Is(err, errNoLink)
	if made {
		l, err = makeLink(c.o.Link)
	}
	if err != nil {
		return fmt.Errorf("claiming addresses on %s: %w", c.o.Link, err)
	}
	c.link = l
	var errs []error
	for _, h := range c.holdings {
		if _, h.why = c.keep(h); h.why != nil {
			errs = append(errs, h.why)
		}
	}
	if len(errs) < len(c.holdings) {
		return nil
	}
	if errors.Is(errs[0], os.ErrPermission) {
		errs = errs[:1] // the others say the same
	}
	err = errors.Join(errs...)
	if made {
		err = errors.Join(err, deleteLink(l))
	}
	return err
}

// Lost returns why addresses are not on the host, one error for each; none
// when all are there.
func (c *Claim) Lost() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, h := range c.holdings {
		if h.why != nil {
			errs = append(errs, h.why)
		}
	}
	return errs
}

// Release takes off the host what the claim put there, and nothing else: the
// addresses, and the link if it was made for them. What is gone already is no
// error. After an error it may be called again; after success that does
// nothing. Run puts nothing back from then on.
func (c *Claim) Release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.released = true
	if c.gone {
		return nil
	}
	var errs []error
	for _, h := range c.holdings {
		errs = append(errs, c.takeOff(h))
	}
	err := errors.Join(append(errs, deleteLink(c.link))...)
	c.gone = err == nil
	return err
}

func (c *Claim) takeOff(h *holding) error {
	places, err := findAddress(h.addr)
	if err != nil {
		return err
	}
	for _, p := range places {
		if p.ours && p.link.name == c.o.Link {
			err = removeAddress(p.link, h.addr)
		}
	}
	return errors.Join(err, removeFence(h.addr))
}
