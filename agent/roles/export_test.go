package roles

import (
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/rotation/credential"
)

// Follow resolves a reference in an environment.
func Follow(env []string, r config.Ref) (credential.Secret, error) {
	return Environment(env).follow(r)()
}
