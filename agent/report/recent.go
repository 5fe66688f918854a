package report

import (
	"slices"
	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
)

// remembered is how many kinds of answers are kept.
const remembered = 32

// asked is how much of a role's name is kept: a stranger has chosen it.
const asked = 64

// Recent keeps the newest decision of each kind. What one caller repeats is
// counted, and whatever names of roles it makes up, it takes one place for each
// verdict: nobody can push all others out by asking often. The zero Recent is
// empty. It may be used concurrently.
type Recent struct {
	mu   sync.Mutex
	list []admin.Decision // guarded by mu; newest last
}

// Add keeps a decision.
func (r *Recent) Add(now time.Time, d admin.Decision) {
	d.Time, d.Count, d.Role = now, 1, d.Role[:min(len(d.Role), asked)]
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.list, func(was admin.Decision) bool { return same(was, d) })
	switch {
	case i >= 0:
		d.Count = r.list[i].Count + 1
		r.list = slices.Delete(r.list, i, i+1)
	case len(r.list) >= remembered:
		r.list = slices.Delete(r.list, 0, 1)
	}
	r.list = append(r.list, d)
}

// same reports whether two decisions are of one kind. The role counts only
// where it was granted: all others are what the caller made up.
func same(a, b admin.Decision) bool {
	return uid(a) == uid(b) && a.Caller.Listener == b.Caller.Listener && a.Caller.Unit == b.Caller.Unit && a.Caller.Container == b.Caller.Container &&
		a.Caller.Pod == b.Caller.Pod && a.Endpoint == b.Endpoint && a.Verdict == b.Verdict && a.Rule == b.Rule &&
		(a.Verdict != "granted" || a.Role == b.Role)
}

func uid(d admin.Decision) int64 {
	if d.Caller.UID == nil {
		return -1
	}
	return int64(*d.Caller.UID)
}

// List returns what is kept, newest first.
func (r *Recent) List() []admin.Decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := append([]admin.Decision{}, r.list...)
	slices.Reverse(all)
	return all
}
