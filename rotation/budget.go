package rotation

import (
	"sync"
	"time"
)

const (
	// A budget holds a credit of time, which time refills. A retry costs
	// priceUrgent for a key whose credential ends soon, or that has none, and
	// price for one that can wait: an upstream that is down hears a host once in
	// 10 s or in 36 s, however many roles it has. Recovery does not suffer: the
	// first answer fills the budget for all.
	creditMost  = 160 * time.Second
	price       = 36 * time.Second
	priceUrgent = 10 * time.Second
)

// A Budget bounds the retries that the keys of one upstream make together. An
// answer fills it, so that it delays nobody once the upstream is well. Who waits
// first is served first, and waits no longer than the price, so that a key that
// always fails does not spend the credit of the others. The zero Budget is full.
// It may be used concurrently.
type Budget struct {
	mu    sync.Mutex
	tat   time.Duration // guarded by mu: boot time at which it will be full again
	lanes [2]lane       // guarded by mu: of keys that can wait, and of urgent ones
}

// A lane is who waits first, from when on, and until when the place is kept.
type lane struct {
	head         *State
	since, until time.Duration
}

// take pays for a retry, or returns how long to wait for the credit and takes
// nothing. A nil Budget is without limit.
func (b *Budget) take(who *State, boot, price time.Duration, urgent bool) (wait time.Duration) {
	if b == nil || price == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &b.lanes[0]
	if urgent {
		l = &b.lanes[1]
	}
	if l.head != nil && l.head != who && boot <= l.until {
		return l.until - boot + time.Millisecond
	}
	full := max(b.tat, boot) + price
	wait = full - boot - creditMost
	switch {
	case wait <= 0:
		l.head, b.tat = nil, full
		return 0
	case l.head == who && boot-l.since >= price:
		l.head = nil // the time has been paid
		return 0
	case l.head == who:
		wait = min(wait, l.since+price-boot)
	}
	if l.head != who {
		l.head, l.since = who, boot
		wait = min(wait, price)
	}
	l.until = boot + wait + time.Second
	return wait
}

// Answered fills the budget, and reports whether anybody may have waited for it.
func (b *Budget) Answered(boot time.Duration) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.tat
	b.tat, b.lanes = 0, [2]lane{}
	return was > boot
}

// Throttle empties the budget, for at least the time that the upstream asked
// for, within reason.
func (b *Budget) Throttle(boot, asked time.Duration) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	from := boot + min(asked, patientUrgent)
	b.tat = max(b.tat, from+creditMost)
	b.lanes[0].since, b.lanes[1].since = max(b.lanes[0].since, from), max(b.lanes[1].since, from)
}
