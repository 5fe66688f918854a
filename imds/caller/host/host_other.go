//go:build !linux

package host

import (
	"errors"
	"syscall"
	"time"
)

type end struct{}

func newEnd() *end { return &end{} }

func (*end) state(syscall.RawConn) (uint8, error) { return 0, errors.ErrUnsupported }

func inodeOf(syscall.RawConn) (uint64, error) { return 0, errors.ErrUnsupported }

func monotonic() time.Duration { return 0 }
