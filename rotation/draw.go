package rotation

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"

	"github.com/hostrole/hostrole/rotation/credential"
)

// Draws returns a function for [Options.Draw] that serves one key: uniform in
// [0,1), and the same sequence for the same host and key at each start, so that
// a fleet that is restarted as one is spread as it was. host is what no other
// host has, such as the machine id. It is not for concurrent use.
func Draws(host string, k credential.Key) func() float64 {
	h := sha256.New()
	_, _ = io.WriteString(h, "hostrole draws\x00"+k.String()+"\x00"+host)
	return rand.New(rand.NewChaCha8([32]byte(h.Sum(nil)))).Float64 // #nosec G404 -- spreads load, hides nothing
}
