// Package credential is the one value that travels from an upstream to a
// workload: a set of temporary AWS keys, and the key that names its session.
//
// # Why not
//
// Not the SDK's aws.Credentials: its secrets are plain strings, so that any
// logger, encoder or %v shows them, and it has one expiry where we need two
// clocks. Not a String or Format method on a struct of strings: fmt prints
// unexported fields without asking their methods, so [Secret] keeps its text
// behind a pointer.
package credential

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"
)

// A Credential is one set of temporary AWS keys. It never changes: a renewal
// is a new one. The zero Credential holds no keys and is never live.
type Credential struct {
	AccessKeyID string
	SecretKey   Secret
	Token       Secret        // empty for long-term keys, which are never served
	AccountID   string        // 12 digits, or "" when the upstream did not say
	RoleARN     string        // "" where the upstream fixes the role
	Endpoint    string        // host that gave it, for people; "" when that is not known
	RequestID   string        // the upstream's own name for the answer, for audit; "" when it gave none
	Issued      time.Time     // UTC, the upstream's clock when it answered
	Expires     time.Time     // UTC, the issuer's word, never adjusted; zero means never
	Received    time.Duration // boot time when it arrived
}

// Complete reports whether c has both keys.
func (c Credential) Complete() bool { return c.AccessKeyID != "" && !c.SecretKey.Empty() }

// Live reports whether c is complete and both clocks call it live. wall is
// the time by the issuer's clock: the local wall clock corrected by the
// measured skew. boot is the time since boot, suspend included.
func (c Credential) Live(wall time.Time, boot time.Duration) bool {
	return c.Complete() && (c.Expires.IsZero() || c.Left(wall, boot) > 0)
}

// Left is the life that remains by the clock that has less of it, with the
// clocks of [Credential.Live]. It is negative once c has expired, and means
// nothing for a credential that never expires.
func (c Credential) Left(wall time.Time, boot time.Duration) time.Duration {
	return min(c.Expires.Sub(wall), c.Expires.Sub(c.Issued)-(boot-c.Received))
}

// ID names c in logs and audit records: 8 hexadecimal digits that stay the
// same for one set of keys and say nothing about them.
func (c Credential) ID() string {
	if c.AccessKeyID == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("hostrole credential id\x00" + c.AccessKeyID))
	return hex.EncodeToString(sum[:4])
}

// A Secret is text that no printer, logger or encoder shows. The zero Secret
// is empty.
type Secret struct{ text *string }

// NewSecret hides text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text. It is the only way to read it, so the callers of
// Reveal, which a test lists by file, are all of a secret's exits.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is no text.
func (s Secret) Empty() bool { return s.text == nil }

// Format prints a placeholder for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// String returns a placeholder.
func (s Secret) String() string { return "[secret]" }

// MarshalText returns a placeholder; encoding/json and log/slog use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// A Key stands for every parameter of a session: role, external id, policy,
// tags, name, duration, endpoint, base identity. Equal keys share a
// credential. Keys are comparable; the zero Key belongs to no session.
type Key struct{ digest [sha256.Size]byte }

// NewKey derives the key of a session from all of its parameters. Each part is
// hashed with its length, so that no two lists of parts run together.
func NewKey(parts ...string) Key {
	h := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		_, _ = io.WriteString(h, p)
	}
	var k Key
	h.Sum(k.digest[:0])
	return k
}

// String is the first 8 hexadecimal digits, for logs.
func (k Key) String() string { return hex.EncodeToString(k.digest[:4]) }

// Check reports what keeps c from being served: a missing part, text that
// does not belong into a header or a document, or an expiry that is not after
// the issue. Its error holds nothing of c.
func Check(c Credential) error {
	switch {
	case c.AccessKeyID == "":
		return errors.New("the answer has no access key id")
	case c.SecretKey.Empty():
		return errors.New("the answer has no secret access key")
	case !plain(c.AccessKeyID) || !plain(c.SecretKey.Reveal()) || !plain(c.Token.Reveal()):
		return errors.New("the answer has characters in a key that no key has")
	case len(c.AccessKeyID) > 128 || len(c.SecretKey.Reveal()) > 1024 || len(c.Token.Reveal()) > 32<<10:
		return errors.New("the answer has a key that is longer than any key")
	case c.Issued.IsZero():
		return errors.New("the answer has no time")
	case !c.Expires.IsZero() && !c.Expires.After(c.Issued):
		return fmt.Errorf("the answer expired %v before it was given", c.Issued.Sub(c.Expires))
	}
	return nil
}

// plain reports whether s is printable ASCII without space, quote and
// backslash, so that it stands in JSON and in a header as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
