// Package token makes and checks IMDSv2 session tokens: stateless, bound to a
// listener and a boot, alive over a restart.
//
// # Why not
//
// Not a table of tokens: a flood of PUTs fills it, eviction logs other callers
// out, and a restart forgets it, which locks some SDKs out for hours. Not wall
// time: a clock that steps would end every token, or none. Not an identity: a
// token says that its bearer could make a PUT here, and nothing about roles.
package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"sync"
	"time"
)

const (
	// Length of a token in characters, as EC2's.
	Length = 56
	// MinTTL and MaxTTL bound the life that a client may ask for.
	MinTTL, MaxTTL = time.Second, 6 * time.Hour
	// KeySize is the length of a Sealer's key in bytes.
	KeySize = 32
)

// A token is 40 bytes: version 1, expiry 4 (seconds of boot time, rounded
// up), nonce 11, tag 24. The base64 of 40 bytes has the shape of EC2's tokens.
const (
	version  = 1
	sealed   = 40
	tagStart = 16
)

// ErrInvalid is the failure of every token that does not hold, whatever the
// reason: a client learns none.
var ErrInvalid = errors.New("the token is missing, altered, expired, or of another listener or boot")

// A Sealer makes and checks the tokens of one listener. It may be used
// concurrently.
type Sealer struct {
	boot func() time.Duration
	macs sync.Pool // of hash.Hash, keyed
	bind [sha256.Size]byte
}

// New returns a Sealer. key has KeySize secret bytes, the same for all
// listeners of a host and over restarts; listener and bootID are
// authenticated with each token. boot is the time since boot, suspend
// included.
func New(key []byte, listener, bootID string, boot func() time.Duration) *Sealer {
	if len(key) != KeySize {
		panic("token: a key of the wrong size") // no path leads here from input
	}
	s := &Sealer{boot: boot}
	s.macs.New = func() any { return hmac.New(sha256.New, key) }
	h := sha256.New()
	h.Write([]byte(listener))
	h.Write([]byte{0})
	h.Write([]byte(bootID))
	h.Sum(s.bind[:0])
	return s
}

// NewKey returns a fresh random key.
func NewKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails: it ends the program
	return key
}

// Issue returns a new token of Length characters that is valid for ttl,
// between MinTTL and MaxTTL.
func (s *Sealer) Issue(ttl time.Duration) string {
	var raw [sealed]byte
	raw[0] = version
	expiry := (s.boot() + ttl + time.Second - 1) / time.Second
	binary.BigEndian.PutUint32(raw[1:], uint32(expiry)) // #nosec G115 -- 136 years of uptime
	_, _ = rand.Read(raw[5:tagStart])
	s.tag(raw[tagStart:], raw[:tagStart])
	return base64.URLEncoding.EncodeToString(raw[:])
}

// Check returns the life that tok has left, or ErrInvalid. It decodes nothing
// that has not the right length.
func (s *Sealer) Check(tok string) (left time.Duration, err error) {
	if len(tok) != Length {
		return 0, ErrInvalid
	}
	var raw [sealed + 2]byte // what 56 characters without padding would need
	n, err := base64.URLEncoding.Strict().Decode(raw[:], []byte(tok))
	if err != nil || n != sealed || raw[0] != version {
		return 0, ErrInvalid
	}
	var want [sealed - tagStart]byte
	s.tag(want[:], raw[:tagStart])
	if subtle.ConstantTimeCompare(want[:], raw[tagStart:sealed]) != 1 {
		return 0, ErrInvalid
	}
	left = time.Duration(binary.BigEndian.Uint32(raw[1:]))*time.Second - s.boot()
	if left <= 0 || left > MaxTTL+time.Second {
		return 0, ErrInvalid
	}
	return left, nil
}

func (s *Sealer) tag(dst, head []byte) {
	h := s.macs.Get().(hash.Hash)
	h.Reset()
	h.Write(s.bind[:])
	h.Write(head)
	var sum [sha256.Size]byte
	copy(dst, h.Sum(sum[:0]))
	s.macs.Put(h)
}
