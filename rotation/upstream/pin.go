package upstream

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"strings"
)

// A Pin is the SHA-256 of a public key as a certificate has it
// (SubjectPublicKeyInfo).
type Pin [sha256.Size]byte

// ErrPinned matches the failure of a connection whose chain is good and has
// none of the keys that the operator has pinned.
var ErrPinned = errors.New("its certificate, and the authorities above it, have none of the pinned keys")

// ParsePin reads the form of curl, of HPKP and of browsers: sha256/ or sha256//
// and base64.
func ParsePin(text string) (Pin, error) {
	encoded, ok := strings.CutPrefix(text, "sha256/")
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(encoded, "/"))
	if !ok || err != nil || len(sum) != sha256.Size {
		return Pin{}, errors.New("no pin: it reads sha256/ and 44 letters of base64")
	}
	return Pin(sum), nil
}

// pinned returns the check of a connection whose chain has been verified: one
// of its keys, that of the server or of any authority above it, must be pinned.
func pinned(pins []Pin) func(tls.ConnectionState) error {
	if len(pins) == 0 {
		return nil
	}
	allowed := map[Pin]bool{}
	for _, p := range pins {
		allowed[p] = true
	}
	return func(s tls.ConnectionState) error {
		for _, chain := range s.VerifiedChains {
			for _, c := range chain {
				if allowed[sha256.Sum256(c.RawSubjectPublicKeyInfo)] {
					return nil
				}
			}
		}
		return ErrPinned
	}
}
