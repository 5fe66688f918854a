//go:build !linux

package netns

import (
	"context"
	"errors"
	"syscall"
)

type space struct{}

func (space) close() {}

func (space) enter(func() error) error { return errors.ErrUnsupported }

type process struct{}

func (*process) wait() {}

func (*process) close() {}

func search(context.Context, int32) (space, *process, error) {
	return space{}, nil, errors.ErrUnsupported
}

func deviceOf(syscall.RawConn) (uint32, error) { return 0, errors.ErrUnsupported }

func privileged() error { return errors.ErrUnsupported }
