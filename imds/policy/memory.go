package policy

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/hostrole/hostrole/imds/caller"
)

const (
	// rememberedAtLeast is from how many rules on it pays to remember.
	rememberedAtLeast = 8
	// rememberedAtMost is how many callers are remembered. Then all are
	// forgotten: a host that has more of them asks the rules again now and then.
	rememberedAtMost = 4096
)

// A Memory decides as its Policy does, and remembers what it has decided: what
// a caller is given takes the same time under one rule and under a thousand. It
// may be used concurrently; the slices of its decisions are not to be changed.
type Memory struct {
	policy Policy
	source bool // whether a rule asks where a caller comes from

	decided recollection[Decision]
	hinging recollection[bool]
}

// A recollection is what was found out about callers.
type recollection[T any] struct {
	mu    sync.RWMutex
	known map[facts]T
}

// get returns what is known by f, or finds it out.
func (r *recollection[T]) get(f facts, find func() T) T {
	r.mu.RLock()
	known, is := r.known[f]
	r.mu.RUnlock()
	if is {
		return known
	}
	known = find()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= rememberedAtMost {
		r.known = map[facts]T{}
	}
	r.known[f] = known
	return known
}

// facts are all that a rule can ask about a caller. Of two with the same facts,
// the rules say the same.
type facts struct {
	listener, user, groups, unit, slice, container, runtime, name, image, digest, labels string
	namespace, account, pod                                                              string
	uid                                                                                  caller.ID
	remote                                                                               netip.Addr // where a rule asks for it
}

// NewMemory returns a Memory of p, which is not to be changed any more.
func NewMemory(p Policy) *Memory {
	return &Memory{policy: p, source: slices.ContainsFunc(p, func(r Rule) bool { return len(r.Sources) > 0 })}
}

// Decide is what [Policy.Decide] says.
func (m *Memory) Decide(who caller.Caller) Decision {
	if len(m.policy) < rememberedAtLeast {
		return m.policy.Decide(who)
	}
	return m.decided.get(m.of(&who), func() Decision { return m.policy.Decide(who) })
}

// Hinges is what [Policy.Hinges] says.
func (m *Memory) Hinges(who caller.Caller) bool {
	if len(m.policy) < rememberedAtLeast || who.Container == "" {
		return m.policy.Hinges(who)
	}
	return m.hinging.get(m.of(&who), func() bool { return m.policy.Hinges(who) })
}

func (m *Memory) of(who *caller.Caller) facts {
	f := facts{listener: who.Listener, user: who.User, groups: join(who.Groups), unit: who.Unit, slice: who.Slice,
		container: who.Container, runtime: who.Runtime, name: who.ContainerName, image: who.Image, digest: who.ImageDigest,
		namespace: who.Namespace, account: who.ServiceAccount, pod: who.Pod, uid: who.UID}
	if len(who.Labels) > 0 {
		all := make([]string, 0, 2*len(who.Labels))
		for key := range who.Labels {
			all = append(all, key)
		}
		slices.Sort(all)
		for _, key := range all[:len(who.Labels)] {
			all = append(all, who.Labels[key])
		}
		f.labels = join(all)
	}
	if m.source {
		f.remote = who.Remote.Addr()
	}
	return f
}

// join makes one text of several; no others make the same.
func join(texts []string) string {
	switch len(texts) {
	case 0:
		return ""
	case 1:
		return "1" + texts[0]
	}
	var b strings.Builder
	b.WriteByte('n')
	for _, t := range texts {
		b.WriteString(strings.ReplaceAll(strings.ReplaceAll(t, "\x01", "\x01\x02"), "\x00", "\x01\x03"))
		b.WriteByte(0)
	}
	return b.String()
}
