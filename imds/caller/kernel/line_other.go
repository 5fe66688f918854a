//go:build !linux

package kernel

import "errors"

// What a [Line] can ask about: on this system, nothing.
const (
	Sockets = iota
	Links
)

// A Line is for Linux; here it never opens.
type Line struct{}

// Open returns [errors.ErrUnsupported].
func (*Line) Open(int) error { return errors.ErrUnsupported }

// IsOpen returns false.
func (*Line) IsOpen() bool { return false }

// Close does nothing.
func (*Line) Close() {}

// Ask returns [errors.ErrUnsupported].
func (*Line) Ask([]byte) (uint16, []byte, error) { return 0, nil, errors.ErrUnsupported }
