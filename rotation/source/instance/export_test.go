package instance

import (
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
)

// Accept reads a document that arrived at that time, for fuzzing.
func Accept(text string, issued time.Time) (credential.Credential, error) {
	return accept("GET", text, issued, time.Hour)
}

// First reads a list of roles, for fuzzing.
func First(list string) (string, error) { return first(list) }

// Check judges an endpoint, for tables and fuzzing.
func (l Loop) Check(endpoint string) error { return l.check(endpoint) }
