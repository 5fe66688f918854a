package hostaddr

import (
	"errors"
	"time"
)

// Leave is [Claim.Release] for the sake of a successor: the addresses stay for
// a while, in seconds, and then the kernel takes them off, unless another claim
// has made them its own. So no request fails between a daemon that ends and the
// next one, and nothing is left on the host if none comes. A link that the claim
// made has no such end in the kernel: with one, Leave is Release.
func (c *Claim) Leave(while time.Duration) error {
	c.mu.Lock()
	ours := c.link.ours
	c.mu.Unlock()
	if ours {
		return c.Release()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.released = true
	if c.gone {
		return nil
	}
	var errs []error
	for _, h := range c.holdings {
		errs = append(errs, c.expire(h, while))
	}
	err := errors.Join(errs...)
	c.gone = err == nil
	return err
}

func (c *Claim) expire(h *holding, while time.Duration) error {
	places, err := findAddress(h.addr)
	if err != nil {
		return err
	}
	for _, p := range places {
		if p.ours && p.link.name == c.o.Link {
			err = expireAddress(p.link, h.addr, max(while, time.Second))
		}
	}
	return errors.Join(err, removeFence(h.addr))
}
