//go:build !linux

package host

import (
	"errors"
	"syscall"
	"time"
)

type conversation struct{}

func newConversation() *conversation { return &conversation{} }

func (*conversation) open() error                            { return errors.ErrUnsupported }
func (*conversation) hangUp()                                {}
func (*conversation) ask(question) (answer, error)           { return answer{}, errors.ErrUnsupported }
func (*conversation) stateOf(syscall.RawConn) (uint8, error) { return 0, errors.ErrUnsupported }

func inodeOf(syscall.RawConn) (uint64, error) { return 0, errors.ErrUnsupported }

func monotonic() time.Duration { return 0 }
