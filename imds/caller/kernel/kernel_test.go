package kernel_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hostrole/hostrole/imds/caller/kernel"
)

// message is one of the kernel's, of a length that it claims.
func message(claims, kind int, question uint32, body ...byte) []byte {
	b := make([]byte, kernel.HeaderSize, kernel.HeaderSize+len(body))
	binary.NativeEndian.PutUint32(b[0:], uint32(claims)) // #nosec G115 -- small
	binary.NativeEndian.PutUint16(b[4:], uint16(kind))   // #nosec G115
	binary.NativeEndian.PutUint32(b[8:], question)
	return append(b, body...)
}

func refusal(code int32) []byte {
	return message(36, 2, 7, append(binary.NativeEndian.AppendUint32(nil, uint32(code)), make([]byte, 16)...)...) // #nosec G115 -- its bits
}

func TestRequestIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	b := make([]byte, kernel.HeaderSize+8+8+4)
	kernel.Head(b, 20)
	rest := kernel.Attribute(b[kernel.HeaderSize:], 5, []byte{1})
	rest = kernel.Attribute(rest, 6, []byte{1, 2, 3, 4})
	if rest = kernel.Attribute(rest, 7, nil); len(rest) != 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
	kind, body, err := kernel.Answer(b, 0)
	if err != nil || kind != 20 {
		t.Fatalf("type %d, %v", kind, err)
	}
	if flags := binary.NativeEndian.Uint16(b[6:]); flags != 1 {
		t.Errorf("the flags are %#x: a dump would be an answer about everybody", flags)
	}
	var kinds []uint16
	var values []byte
	err = kernel.Attributes(body, func(kind uint16, value []byte) error {
		kinds, values = append(kinds, kind), append(values, value...)
		return nil
	})
	if err != nil || !slices.Equal(kinds, []uint16{5, 6, 7}) || !bytes.Equal(values, []byte{1, 1, 2, 3, 4}) {
		t.Errorf("attributes %v with %v, %v", kinds, values, err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for what, b := range map[string][]byte{
		"nothing":                  nil,
		"less than a header":       message(16, 20, 7)[:15],
		"less than it claims":      message(17, 20, 7),
		"a claim below a header":   message(15, 20, 7, 1, 2, 3),
		"a claim beyond all":       message(-1, 20, 7),
		"about another question":   message(16, 20, 6),
		"an error without a code":  message(19, 2, 7, 1, 2, 3),
		"an error that is none":    refusal(0),
		"an error that is a count": refusal(2),
		"an error beyond all":      refusal(-4096),
		"the least error of all":   refusal(-1 << 31),
	} {
		if kind, body, err := kernel.Answer(b, 7); !errors.Is(err, kernel.ErrMalformed) || kind != 0 || body != nil {
			t.Errorf("%s: type %d, %v, %v", what, kind, body, err)
		}
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	kind, body, err := kernel.Answer(message(18, 20, 7, 1, 2, 3, 4), 7) // what follows is another message
	if err != nil || kind != 20 || !bytes.Equal(body, []byte{1, 2}) {
		t.Errorf("type %d, %v, %v", kind, body, err)
	}
	for code, want := range map[int32]syscall.Errno{-2: syscall.ENOENT, -1: syscall.EPERM, -4095: 4095} {
		if kind, body, err := kernel.Answer(refusal(code), 7); !errors.Is(err, want) || errors.Is(err, kernel.ErrMalformed) || kind != 0 || body != nil {
			t.Errorf("a refusal with %d: %v, want %v", code, err, want)
		}
	}
}

func TestAttributesThatAreNone(t *testing.T) {
	t.Parallel()
	one := func(size uint16, more ...byte) []byte {
		return append(binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, size), 3), more...)
	}
	for what, b := range map[string][]byte{
		"less than a header":           {8, 0, 3},
		"a size below a header":        one(3),
		"no size":                      one(0),
		"a size beyond the end":        one(9, 1, 2, 3, 4),
		"a good one and half of a bad": append(one(5, 1, 0, 0, 0), 4, 0),
	} {
		if err := kernel.Attributes(b, func(uint16, []byte) error { return nil }); !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	stop, seen := errors.New("enough"), 0
	two := append(one(5, 1, 0, 0, 0), one(4)...)
	if err := kernel.Attributes(two, func(uint16, []byte) error { seen++; return stop }); !errors.Is(err, stop) || seen != 1 {
		t.Errorf("%d attributes were looked at, %v", seen, err)
	}
	// The last one need not be padded, and marks of nesting and byte order are no part of a type.
	last := binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(one(4), 5), 0xc003)
	if err := kernel.Attributes(append(last, 1), func(kind uint16, value []byte) error {
		if kind != 3 || len(value) > 1 {
			t.Errorf("attribute %d has %v", kind, value)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// Whatever the bytes are, they are an answer or an error, and nothing is read
// beyond them.
func FuzzAnswer(f *testing.F) {
	f.Add(message(16, 20, 7))
	f.Add(message(24, 20, 7, 5, 0, 3, 0, 1, 0, 0, 0))
	f.Add(refusal(-2))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, body, err := kernel.Answer(slices.Clip(b), 7)
		var errno syscall.Errno
		switch {
		case err != nil && !errors.Is(err, kernel.ErrMalformed) && !errors.As(err, &errno):
			t.Errorf("an error that nobody knows: %v", err)
		case err != nil:
			return
		case kind == 2 || len(body) > len(b)-kernel.HeaderSize:
			t.Errorf("type %d, %d bytes of %d", kind, len(body), len(b))
		}
		sum := 0
		err = kernel.Attributes(body, func(_ uint16, value []byte) error { sum += 4 + len(value); return nil })
		if sum > len(body) || err != nil && !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("attributes of %d bytes in %d, %v", sum, len(body), err)
		}
	})
}

// A line that is not open says so, and closing it again does no harm.
func TestLineThatIsClosed(t *testing.T) {
	t.Parallel()
	var l kernel.Line
	if err := l.Open(kernel.Sockets); err != nil {
		t.Skipf("SKIPPED, missing: a kernel that answers: %v", err)
	}
	if !l.IsOpen() {
		t.Error("it is not open")
	}
	b := make([]byte, kernel.HeaderSize)
	kernel.Head(b, 20) // without a body the kernel refuses it
	if _, _, err := l.Ask(b); err == nil || strings.Contains(err.Error(), "no answer") {
		t.Errorf("a question that is none: %v", err)
	}
	l.Close()
	l.Close()
	if l.IsOpen() {
		t.Error("it is open after its end")
	}
}
