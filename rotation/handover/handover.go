// Package handover carries live credentials and the token key over a restart of
// the daemon, in sealed memory that the service manager keeps.
//
// # Why not
//
// Not a file in the runtime directory where there is a service manager: it can be
// read back, copied by a backup, and lies there when the service is gone; memory
// without a name is freed with its last descriptor. Not a key in the kernel's keyring: the unit has one of
// its own that ends with each start, and whoever shares one could read it. Not
// encryption: who can open the descriptor can read the daemon's memory, where
// the key would be; only what outlasts a boot is encrypted. Not gob or a snapshot of our structs: the next version has
// others, and must see that, not guess.
package handover

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
)

const (
	// Limit is the largest encoding in bytes: a few hundred roles with the
	// longest tokens that an STS gives.
	Limit = 4 << 20

	// version is what is written; oldest is the first that can be read, so that
	// an upgrade loses nothing.
	version = 2
	oldest  = 1
	magic   = "hostrole"
	// head is magic, version 4, length 4, checksum.
	head = len(magic) + 4 + 4 + sha256.Size

	keyLeast, keyMost = 16, 64
)

var (
	// ErrForm matches the failure of input that was cut, altered, is too large,
	// or not ours.
	ErrForm = errors.New("what was handed over is damaged")
	// ErrVersion matches the failure of input that another version wrote.
	ErrVersion = errors.New("what was handed over has the form of another version")
	// ErrBoot matches the failure of input from another boot, whose clock and
	// tokens mean nothing in this one.
	ErrBoot = errors.New("what was handed over is from another boot")
)

// Contents are what one process leaves to the next.
type Contents struct {
	TokenKey    []byte                                   // 16 to 64 bytes; it seals session tokens
	Credentials map[credential.Key]credential.Credential // the live ones
	Written     time.Duration                            // boot time; the newer of two is the one to use
}

// A Moment is when and in which boot something is read.
type Moment struct {
	BootID string        // names this boot; what is read with "" is refused
	Wall   time.Time     // by the wall clock
	Boot   time.Duration // since boot, suspend included
}

// paper is the form on the wire. Its fields are plain text, which is why it
// never leaves this package.
type paper struct {
	BootID   string        `json:"boot_id"`
	Written  time.Duration `json:"written"`
	TokenKey []byte        `json:"token_key"`
	Live     []entry       `json:"credentials"`
}

type entry struct {
	Key         string        `json:"key"`
	AccessKeyID string        `json:"access_key_id"`
	SecretKey   string        `json:"secret_key"`
	Token       string        `json:"token"`
	AccountID   string        `json:"account_id"`
	RoleARN     string        `json:"role_arn"`
	RequestID   string        `json:"request_id"`
	Endpoint    string        `json:"endpoint,omitempty"` // since version 2
	Issued      time.Time     `json:"issued"`
	Expires     time.Time     `json:"expires"`
	Received    time.Duration `json:"received"`
}

// Encode writes c down for the boot that bootID names. The result holds
// secrets: clear it after use.
func Encode(c Contents, bootID string) ([]byte, error) {
	if bootID == "" {
		return nil, fmt.Errorf("handing over: the kernel does not name this boot: %w", errors.ErrUnsupported)
	}
	if len(c.TokenKey) < keyLeast || len(c.TokenKey) > keyMost {
		return nil, fmt.Errorf("handing over: a token key of %d bytes", len(c.TokenKey))
	}
	p := paper{BootID: bootID, Written: c.Written, TokenKey: c.TokenKey, Live: []entry{}}
	for k, one := range c.Credentials {
		if err := credential.Check(one); err != nil {
			return nil, fmt.Errorf("handing over the credential %s: %w", one.ID(), err)
		}
		p.Live = append(p.Live, written(k, one))
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, errors.New("handing over: a date that cannot be written down") // its text may hold the value
	}
	defer clear(text)
	if head+len(text) > Limit {
		return nil, fmt.Errorf("handing over: %d bytes are more than %d: fewer roles fit", head+len(text), Limit)
	}
	b := make([]byte, 0, head+len(text))
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text))) // #nosec G115 -- below Limit
	sum := sha256.Sum256(text)
	return append(append(b, sum[:]...), text...), nil
}

// Decode reads what Encode wrote, in the same boot. Credentials that are not
// live any more are left out. An error means that nothing of it is to be used;
// it holds nothing of the input.
func Decode(b []byte, at Moment) (Contents, error) {
	text, err := open(b)
	if err != nil {
		return Contents{}, err
	}
	var p paper
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	// Not %w: what the decoder says can quote what it read.
	if d.Decode(&p) != nil {
		return Contents{}, fmt.Errorf("%w: its text cannot be read", ErrForm)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Contents{}, fmt.Errorf("%w: something follows its text", ErrForm)
	}
	switch {
	case at.BootID == "" || p.BootID != at.BootID:
		return Contents{}, ErrBoot
	case p.Written < 0 || p.Written > at.Boot:
		return Contents{}, fmt.Errorf("%w: it was written later than now", ErrForm)
	case len(p.TokenKey) < keyLeast || len(p.TokenKey) > keyMost:
		return Contents{}, fmt.Errorf("%w: its token key has %d bytes", ErrForm, len(p.TokenKey))
	}
	c := Contents{TokenKey: p.TokenKey, Written: p.Written, Credentials: map[credential.Key]credential.Credential{}}
	for _, e := range p.Live {
		k, one, err := e.credential(at)
		if err != nil {
			return Contents{}, err
		}
		if _, twice := c.Credentials[k]; twice {
			return Contents{}, fmt.Errorf("%w: it has two credentials for one key", ErrForm)
		}
		c.Credentials[k] = one
	}
	for k, one := range c.Credentials {
		if !one.Live(at.Wall, at.Boot) {
			delete(c.Credentials, k)
		}
	}
	return c, nil
}

// open checks the frame and returns what is in it.
func open(b []byte) ([]byte, error) {
	switch {
	case len(b) > Limit:
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrForm, Limit)
	case len(b) < head || string(b[:len(magic)]) != magic:
		return nil, fmt.Errorf("%w: it does not begin as it should", ErrForm)
	}
	if v := binary.BigEndian.Uint32(b[len(magic):]); v < oldest || v > version {
		return nil, fmt.Errorf("%w: %d, not %d to %d", ErrVersion, v, oldest, version)
	}
	text := b[head:]
	if n := binary.BigEndian.Uint32(b[len(magic)+4:]); uint64(n) != uint64(len(text)) {
		return nil, fmt.Errorf("%w: it has %d bytes of %d", ErrForm, len(text), n)
	}
	if sum := sha256.Sum256(text); !bytes.Equal(sum[:], b[len(magic)+8:head]) {
		return nil, fmt.Errorf("%w: its checksum differs", ErrForm)
	}
	return text, nil
}

func (e entry) credential(at Moment) (k credential.Key, c credential.Credential, err error) {
	// One that has come over a reboot was received before this boot.
	if k, c, err = e.read(); err == nil && c.Received > at.Boot {
		err = fmt.Errorf("%w: a credential that came later than now", ErrForm)
	}
	return k, c, err
}

// read is a credential from paper.
func (e entry) read() (k credential.Key, c credential.Credential, err error) {
	digest, err := hex.DecodeString(e.Key)
	if err != nil || len(digest) != sha256.Size {
		return k, c, fmt.Errorf("%w: a key that is none", ErrForm)
	}
	c = credential.Credential{
		AccessKeyID: e.AccessKeyID, SecretKey: credential.NewSecret(e.SecretKey), Token: credential.NewSecret(e.Token),
		AccountID: e.AccountID, RoleARN: e.RoleARN, RequestID: e.RequestID, Endpoint: e.Endpoint,
		Issued: e.Issued.UTC(), Expires: e.Expires.UTC(), Received: e.Received,
	}
	if err := credential.Check(c); err != nil {
		return k, c, fmt.Errorf("%w: a credential: %w", ErrForm, err)
	}
	return credential.KeyOf([sha256.Size]byte(digest)), c, nil
}

// written is a credential on paper.
func written(k credential.Key, c credential.Credential) entry {
	digest := k.Digest()
	return entry{
		Key: hex.EncodeToString(digest[:]), AccessKeyID: c.AccessKeyID, SecretKey: c.SecretKey.Reveal(), Token: c.Token.Reveal(),
		AccountID: c.AccountID, RoleARN: c.RoleARN, RequestID: c.RequestID, Endpoint: c.Endpoint,
		Issued: c.Issued, Expires: c.Expires, Received: c.Received,
	}
}
