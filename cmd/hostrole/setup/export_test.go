package setup

import "strings"

// Kinds are the sources, each with the flags that it needs.
func Kinds() map[string][]string {
	all := map[string][]string{}
	for _, k := range kindNames() {
		all[k] = nil
		for _, q := range questions {
			for _, is := range strings.Fields(q.kinds) {
				if is == k && !q.optional {
					all[k] = append(all[k], q.flag)
				}
			}
		}
	}
	return all
}
