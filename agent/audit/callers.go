package audit

import "time"

const (
	// A caller may cause burst records at once, and one more after each such
	// time: what it repeats faster is counted. The log is read by people, who
	// want to see other lines as well.
	fileBurst, logBurst = 60, 20
	fileEvery, logEvery = time.Second, 10 * time.Second
	// callersMost bounds what is remembered of callers; all beyond share one
	// place.
	callersMost = 4096
	// tellEvery is how soon it is told what was dropped of callers who do not
	// come back.
	tellEvery = time.Minute
)

// who tells callers apart.
type who struct {
	uid                            int64 // -1 when the kernel did not say
	unit, container, pod, listener string
}

// A budget is what one caller may cause.
type budget struct {
	left    int       // records that may be written at once
	since   time.Time // when left was last topped up
	dropped int
	last    Record // that was dropped
}

// callers are the budgets of all.
type callers struct {
	burst int
	every time.Duration
	known map[who]*budget
	told  time.Time // when it was last looked for callers who do not come back
}

func (c *callers) of(r *Record) *budget {
	w := who{-1, r.Unit, r.Container, r.Pod, r.Listener}
	if r.UID != nil {
		w.uid = int64(*r.UID)
	}
	if c.known == nil {
		c.known = map[who]*budget{}
	}
	b := c.known[w]
	if b == nil && len(c.known) >= callersMost {
		w = who{uid: -2}
		b = c.known[w]
	}
	if b == nil {
		b = &budget{left: c.burst, since: r.Time}
		c.known[w] = b
	}
	return b
}

// topUp gives back what time has earned.
func (b *budget) topUp(now time.Time, c *callers) {
	if more := int(now.Sub(b.since) / c.every); more > 0 {
		b.left, b.since = min(c.burst, b.left+more), b.since.Add(time.Duration(more)*c.every)
	} else if now.Before(b.since) { // the clock was put back
		b.since = now
	}
}

// admit decides whether r is written, which it is whatever its caller had when
// it must, and gives it the count of those before it that were not.
func (c *callers) admit(r *Record, must bool) bool {
	b := c.of(r)
	b.topUp(r.Time, c)
	if b.left == 0 && !must {
		b.dropped++
		b.last = *r
		return false
	}
	b.left = max(0, b.left-1)
	r.Dropped, b.dropped, b.last = b.dropped, 0, Record{}
	return true
}

// overdue is what is to be told of callers who do not come back, once in a
// while. Those whose budget is full again are forgotten.
func (c *callers) overdue(now time.Time) (told []Record) {
	if now.Sub(c.told).Abs() < tellEvery {
		return nil
	}
	c.told = now
	for w, b := range c.known {
		b.topUp(now, c)
		switch {
		case b.dropped > 0 && b.left > 0:
			told = append(told, b.tell(now))
		case b.left >= c.burst:
			delete(c.known, w)
		}
	}
	return told
}

// all is what is to be told at the end.
func (c *callers) all(now time.Time) (told []Record) {
	for _, b := range c.known {
		if b.dropped > 0 {
			told = append(told, b.tell(now))
		}
	}
	return told
}

// tell is a record of how many were dropped, and of whom.
func (b *budget) tell(now time.Time) Record {
	r := Record{Time: now, Verdict: Dropped, Dropped: b.dropped, Endpoint: b.last.Endpoint, Listener: b.last.Listener, UID: b.last.UID, User: b.last.User,
		Unit: b.last.Unit, Container: b.last.Container, Pod: b.last.Pod}
	b.dropped, b.last = 0, Record{}
	return r
}
