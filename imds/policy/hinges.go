package policy

import (
	"slices"

	"github.com/hostrole/hostrole/imds/caller"
)

// every matches all names but those of what is inside of others.
var every = []Glob{{"*"}}

// Hinges reports whether the word of the container's runtime could change what
// the rules say about a caller whom the kernel has named. Whoever need not be
// asked is not: a runtime is slower than the kernel, and may hang.
func (p Policy) Hinges(who caller.Caller) bool {
	if _, byKernel := who.UID.Get(); !byKernel || who.Container == "" {
		return false
	}
	for i := range p {
		r := &p[i]
		if len(r.Images)+len(r.Labels)+len(r.Pods) > 0 || len(r.Containers) > 0 && !matchesAny(r.Containers, who.Container) {
			open := *r
			open.Images, open.Labels, open.Pods, open.Containers = nil, nil, nil, slices.Concat(r.Containers, every)
			if open.matches(&who, "") {
				return true
			}
			continue
		}
		if !r.AuditOnly && r.matches(&who, "") {
			return false
		}
	}
	return false
}
