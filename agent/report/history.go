package report

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/rotation/credential"
)

const (
	// livesKept and outagesKept bound what is remembered of one role: a day of
	// sessions of one hour, renewed at half of their life.
	livesKept, outagesKept = 48, 24
	// rolesKept bounds the roles: a host with more has them by the caller.
	rolesKept = 256
	// tallySpan is what answers are counted by, and talliesKept a day of it.
	tallySpan   = 5 * time.Minute
	talliesKept = 288
)

// A History remembers the lives of credentials, the outages of upstreams and
// the number of answers for about a day, in bounded memory: failures in a row
// are one outage, however long it lasts. The zero History is empty. It may be
// used concurrently.
type History struct {
	mu      sync.Mutex
	roles   []*past       // guarded by mu: the one that had news last is last
	tallies []admin.Tally // guarded by mu: oldest first
}

// past is what is remembered of one role.
type past struct {
	admin.Past
	failing bool // the newest outage lasts
}

// Renewed notes that a role has a new credential.
func (h *History) Renewed(role string, c credential.Credential, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.of(role)
	if p.failing {
		p.Outages[len(p.Outages)-1].Until, p.failing = &now, false
	}
	if n := len(p.Lives); n > 0 && p.Lives[n-1].Replaced == nil {
		p.Lives[n-1].Replaced = &now
	}
	l := admin.Life{Credential: c.ID(), Issued: c.Issued}
	if !c.Expires.IsZero() {
		l.Expires = &c.Expires
	}
	p.Lives = newest(append(p.Lives, l), livesKept)
}

// Failed notes that a renewal of a role failed, in the words of its error.
func (h *History) Failed(role, text string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.of(role)
	if !p.failing {
		p.Outages = newest(append(p.Outages, admin.Outage{From: now}), outagesKept)
		p.failing = true
	}
	o := &p.Outages[len(p.Outages)-1]
	o.Failures, o.Error = o.Failures+1, text
}

// Decided counts an answer.
func (h *History) Decided(verdict string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := now.Truncate(tallySpan)
	if n := len(h.tallies); n == 0 || h.tallies[n-1].From.Before(from) {
		h.tallies = newest(append(h.tallies, admin.Tally{From: from}), talliesKept)
	}
	t := &h.tallies[len(h.tallies)-1]
	switch verdict {
	case "granted":
		t.Granted++
	case "denied":
		t.Denied++
	default:
		t.Failed++
	}
}

// of finds what is remembered of a role, and moves it to the end.
func (h *History) of(role string) *past {
	p := &past{Past: admin.Past{Role: role}}
	if i := slices.IndexFunc(h.roles, func(p *past) bool { return p.Role == role }); i >= 0 {
		p = h.roles[i]
		h.roles = slices.Delete(h.roles, i, i+1)
	}
	h.roles = newest(append(h.roles, p), rolesKept)
	return p
}

// newest keeps the last n, in an array that does not grow for ever.
func newest[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	return slices.Delete(list, 0, len(list)-n)
}

// List returns what is remembered, the roles by name.
func (h *History) List(now time.Time) admin.History {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := admin.History{Version: 1, Time: now, TallySpan: tallySpan.Seconds(), Roles: []admin.Past{}, Tallies: append([]admin.Tally{}, h.tallies...)}
	for _, p := range h.roles {
		all.Roles = append(all.Roles, admin.Past{Role: p.Role, Lives: append([]admin.Life{}, p.Lives...), Outages: append([]admin.Outage{}, p.Outages...)})
	}
	slices.SortFunc(all.Roles, func(a, b admin.Past) int { return strings.Compare(a.Role, b.Role) })
	return all
}
