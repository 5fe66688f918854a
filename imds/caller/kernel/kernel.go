// Package kernel asks the kernel over netlink, one exact question at a time.
//
// # Why not
//
// Not a netlink library: a caller is waited for by its own request, and what
// a library asks by the way (a dump for one entry, a buffer of 64 KiB for each
// answer) costs as much as all questions about the caller together. Not dumps:
// each grows with the host.
package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

// HeaderSize is that of struct nlmsghdr, with which every message begins.
const HeaderSize = 16

// Numbers of linux/netlink.h.
const (
	flagRequest = 1 // NLM_F_REQUEST. Without NLM_F_DUMP: exactly one
	typeError   = 2 // NLMSG_ERROR
	attrMask    = 0x3fff
	attrHeader  = 4
	maxErrno    = 4095
)

// ErrMalformed matches an answer that is not what the kernel sends.
var ErrMalformed = errors.New("the kernel's answer is malformed")

// Head writes the header of a request, which is all of b, of one type. The
// number of the question is for [Line.Ask] to write.
func Head(b []byte, kind uint16) {
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b))) // #nosec G115 -- a hundred bytes
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flagRequest)
}

func number(b []byte, question uint32) { binary.NativeEndian.PutUint32(b[8:], question) }

// Attribute writes an attribute at the beginning of b, padded to 4 bytes, and
// returns the rest of b.
func Attribute(b []byte, kind uint16, value []byte) []byte {
	size := attrHeader + len(value)
	binary.NativeEndian.PutUint16(b[0:], uint16(size)) // #nosec G115 -- 16 bytes at most
	binary.NativeEndian.PutUint16(b[2:], kind)
	copy(b[attrHeader:], value)
	return b[(size+3)&^3:]
}

// Answer reads the one message of b as the answer to a question, by its number.
// The kernel's refusal is an error that matches its [syscall.Errno]; any other
// matches [ErrMalformed].
func Answer(b []byte, question uint32) (kind uint16, body []byte, err error) {
	native := binary.NativeEndian
	if len(b) < HeaderSize {
		return 0, nil, fmt.Errorf("%w: %d bytes are less than a header", ErrMalformed, len(b))
	}
	size := native.Uint32(b)
	if size < HeaderSize || uint64(size) > uint64(len(b)) {
		return 0, nil, fmt.Errorf("%w: it has %d bytes and claims %d", ErrMalformed, len(b), size)
	}
	if got := native.Uint32(b[8:]); got != question {
		return 0, nil, fmt.Errorf("%w: it answers question %d, not %d", ErrMalformed, got, question)
	}
	kind, body = native.Uint16(b[4:]), b[HeaderSize:size]
	if kind == typeError {
		return 0, nil, refusal(body)
	}
	return kind, body, nil
}

func refusal(body []byte) error {
	if len(body) < 4 {
		return fmt.Errorf("%w: an error of %d bytes", ErrMalformed, len(body))
	}
	code := int64(int32(binary.NativeEndian.Uint32(body))) // #nosec G115 -- it is signed
	if code >= 0 || code < -maxErrno {
		return fmt.Errorf("%w: error number %d", ErrMalformed, code)
	}
	return fmt.Errorf("the kernel does not answer: %w", syscall.Errno(-code)) // #nosec G115 -- see above
}

// Attributes has each look at every attribute of b, until it returns an error.
func Attributes(b []byte, each func(kind uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < attrHeader {
			return fmt.Errorf("%w: %d bytes are less than an attribute", ErrMalformed, len(b))
		}
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])&attrMask
		if size < attrHeader || size > len(b) {
			return fmt.Errorf("%w: attribute %d claims %d of %d bytes", ErrMalformed, kind, size, len(b))
		}
		if err := each(kind, b[attrHeader:size]); err != nil {
			return err
		}
		b = b[min((size+3)&^3, len(b)):] // padded to 4 bytes
	}
	return nil
}
