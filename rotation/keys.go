package rotation

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
)

// Update makes jobs the set that is kept fresh, beside what Add has added. A key
// that was there before keeps its credential and its schedule, and asks by its
// new job from its next attempt on. The credential of a key that is not there
// any more is forgotten at once.
func (m *Manager) Update(jobs []Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs = jobs
	m.settle()
}

// Add adds one key to those of Update, or gives it a new job. It is kept fresh
// until Retire, whatever Update says.
func (m *Manager) Add(j Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.more[j.Key] = j
	m.settle()
}

// Retire takes back what Add has added: each of these keys is forgotten at
// once, unless Update has it as well. One that is not there is ignored.
func (m *Manager) Retire(keys ...credential.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		delete(m.more, k)
	}
	m.settle()
}

// settle has a rotator run for each job, and no other. The caller holds m.mu.
func (m *Manager) settle() {
	was, now := *m.rotators.Load(), make(map[credential.Key]*Rotator, len(m.jobs)+len(m.more))
	budgets := map[string]*Budget{}
	// What is in both is as Update says.
	for _, j := range slices.AppendSeq(slices.Collect(maps.Values(m.more)), slices.Values(m.jobs)) {
		if j.Skew == nil {
			j.Skew = func() time.Duration { return 0 }
		}
		r := cmp.Or(now[j.Key], was[j.Key])
		if r == nil {
			r = &Rotator{m: m, slot: m.store.Slot(j.Key), kicked: make(chan struct{}, 1), wishes: make(chan wish), draw: m.o.Draw}
			if r.draw == nil {
				r.draw = Draws(m.o.Host, j.Key)
			}
		}
		if u := j.Upstream; u != "" && budgets[u] == nil {
			budgets[u] = cmp.Or(m.budget(u), &Budget{})
		}
		r.job.Store(&j)
		now[j.Key] = r
	}
	m.budgets.Store(&budgets)
	m.rotators.Store(&now)
	for k := range was {
		if now[k] == nil {
			if stop := m.stop[k]; stop != nil {
				stop()
			}
			delete(m.stop, k)
			m.store.Forget(k)
		}
	}
	for k, r := range now {
		if m.ctx != nil && m.stop[k] == nil {
			m.begin(k, r)
		}
	}
}
