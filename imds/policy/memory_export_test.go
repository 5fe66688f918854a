package policy

import "github.com/hostrole/hostrole/imds/caller"

// Same reports whether m takes two callers for the same.
func (m *Memory) Same(a, b caller.Caller) bool { return m.of(&a) == m.of(&b) }

// Remembered is how many callers m remembers.
func (m *Memory) Remembered() int {
	m.decided.mu.RLock()
	defer m.decided.mu.RUnlock()
	return len(m.decided.known)
}
