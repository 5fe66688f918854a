package handover

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
)

const (
	rebootMagic = "hostrole reboot\x01"
	saltSize    = 16
	// secretLeast is what a secret has that nobody guesses: 32 letters are 128
	// bits when each is one of 16.
	secretLeast = 32
	// worthIt is the least life with which a credential comes out of a lock.
	worthIt = time.Minute
)

var (
	// ErrLocked matches the failure of what another secret, or another machine,
	// has locked, or that was altered.
	ErrLocked = errors.New("it was locked with another secret or on another machine, or was altered since")
	// ErrClock matches the failure of what was locked later than now: the wall
	// clock has been set back, and cannot tell what is left of a life.
	ErrClock = errors.New("it was locked later than this host's clock says it is")
)

// A Lock keeps credentials over a reboot in a file: encrypted with AES-256-GCM,
// by a key of the secret, for this machine alone. Session tokens and their key
// are of a boot, and are not in it.
type Lock struct {
	Secret  credential.Secret // random, of at least 32 letters
	Machine string            // what no other machine is called
}

type locked struct {
	Written time.Time `json:"written"` // by the wall clock
	Live    []lasting `json:"credentials"`
}

type lasting struct {
	entry
	Ends time.Time `json:"ends"` // by the wall clock of the host, which is not the issuer's
}

// Close encrypts those of the credentials that end, as they are now.
func (l Lock) Close(live map[credential.Key]credential.Credential, now Moment) ([]byte, error) {
	doc := locked{Written: now.Wall.UTC(), Live: []lasting{}}
	for k, c := range live {
		if c.Expires.IsZero() || credential.Check(c) != nil {
			continue
		}
		left := c.Expires.Sub(c.Issued) - (now.Boot - c.Received)
		doc.Live = append(doc.Live, lasting{written(k, c), now.Wall.Add(left).UTC()})
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, errors.New("locking: a date that cannot be written down") // its text may hold the value
	}
	defer clear(text)
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	seal, err := l.cipher(salt)
	if err != nil {
		return nil, err
	}
	b := append([]byte(rebootMagic), salt...)
	b = seal.Seal(b, nil, text, l.bound()) // #nosec G407 -- it makes a nonce of its own, at random
	if len(b) > Limit {
		return nil, fmt.Errorf("locking: %d bytes are more than %d: fewer roles fit", len(b), Limit)
	}
	return b, nil
}

// Open returns what is still live of what Close has encrypted, counted on by the
// wall clock. An error means that nothing of it is to be used; it holds nothing of
// the input.
func (l Lock) Open(b []byte, now Moment) (map[credential.Key]credential.Credential, error) {
	rest, ours := bytes.CutPrefix(b, []byte(rebootMagic))
	if !ours || len(rest) < saltSize || len(b) > Limit {
		return nil, fmt.Errorf("%w: it does not begin as it should", ErrForm)
	}
	seal, err := l.cipher(rest[:saltSize])
	if err != nil {
		return nil, err
	}
	text, err := seal.Open(nil, nil, rest[saltSize:], l.bound())
	if err != nil {
		return nil, ErrLocked
	}
	defer clear(text)
	var doc locked
	if json.Unmarshal(text, &doc) != nil {
		return nil, fmt.Errorf("%w: its text cannot be read", ErrForm)
	}
	if doc.Written.After(now.Wall) {
		return nil, ErrClock
	}
	live := map[credential.Key]credential.Credential{}
	for _, e := range doc.Live {
		k, c, err := e.read()
		if err != nil {
			return nil, err
		}
		left := e.Ends.Sub(now.Wall)
		if c.Received = now.Boot - (c.Expires.Sub(c.Issued) - left); left >= worthIt && c.Live(now.Wall, now.Boot) {
			live[k] = c
		}
	}
	return live, nil
}

// cipher is made of the secret and a salt, so that no two files have one key.
func (l Lock) cipher(salt []byte) (cipher.AEAD, error) {
	if len(l.Secret.Reveal()) < secretLeast {
		return nil, fmt.Errorf("the key has fewer than %d letters: make a random one, such as with openssl rand -base64 33", secretLeast)
	}
	key, err := hkdf.Key(sha256.New, []byte(l.Secret.Reveal()), salt, rebootMagic, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the key: %w", err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making the cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// bound is authenticated, and not in the file.
func (l Lock) bound() []byte { return []byte(rebootMagic + l.Machine) }
