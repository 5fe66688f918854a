package runtime

import (
	"encoding/json"
	"time"
)

// Patience is how long a caller waits at most, and Endurance how long a question
// may take.
const (
	Patience  = patience
	Endurance = endurance
)

// BePatient has e wait for every answer, so that a busy machine changes nothing.
func (e *Enricher) BePatient() { e.patience = time.Minute }

// BeAsUsual undoes BePatient.
func (e *Enricher) BeAsUsual() { e.patience = patience }

// Kept is how many containers are remembered.
func (e *Enricher) Kept() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.known)
}

// Pods is how many containers a list of pods has.
func Pods(d *json.Decoder) (n int, err error) {
	err = items(d, func(p *pod) { n += len(p.Status.ContainerStatuses) })
	return n, err
}

// DigestOf and Published are for the fuzzer.
func DigestOf(s string) string { return digestOf(s) }

// Published is the digest of an image by name.
func Published(image, own string, all []string) string {
	return published(facts{image: image, digest: own}, all)
}
