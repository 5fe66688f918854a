package config

import "fmt"

// notBuilt is what the contract of the file has and this version has not: the
// key, with * for a name; a value of it, or "" for any; and what it is. Who
// builds one takes its line out.
var notBuilt = []struct{ key, value, what string }{}

// unbuilt is the problem with a key or its value that is not built yet, or "".
func unbuilt(key, value string) string {
	for _, n := range notBuilt {
		if n.key == key && (n.value == "" || n.value == value) {
			return fmt.Sprintf("%s is not built in this version", n.what)
		}
	}
	return ""
}
