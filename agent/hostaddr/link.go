package hostaddr

import (
	"errors"
	"fmt"
)

// Provide sees to it that a link for addresses is there, before there is a Claim
// of it. For the kernel, what programs on this host send to an address arrives
// on the link that has it: only sockets that are bound to that one hear them,
// and they hear whoever else is on it. So it takes lo, a dummy, or a link that
// was made here, and refuses any other ([ErrOpen]).
//
// undo deletes the link if it was made here and now.
func Provide(name string) (undo func() error, err error) {
	nothing := func() error { return nil }
	l, err := findLink(name)
	if errors.Is(err, errNoLink) {
		if l, err = makeLink(name); err == nil {
			return func() error { return deleteLink(l) }, nil
		}
	}
	if err == nil && !l.ours && !l.closed {
		err = fmt.Errorf("%w: callers on this host would arrive on %s together with everybody who is on it: write link = 'lo', or the name of a link that is not there, to be made", ErrOpen, name)
	}
	if err != nil {
		return nothing, fmt.Errorf("providing the link %s for addresses: %w", name, err)
	}
	return nothing, nil
}
