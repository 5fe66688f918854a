package cgroup

// Walks is how many walks have begun.
func (e *Enricher) Walks() uint64 { return e.begun.Load() }

// Hold keeps all others from walking until the returned function is called.
func (e *Enricher) Hold() (release func()) {
	e.turn <- struct{}{}
	return func() { <-e.turn }
}

const (
	RestAtLeast = restAtLeast
	RestAtMost  = restAtMost
	Pace        = pace
)
