//go:build !linux

package estate

import (
	"errors"
	"syscall"
)

func deviceOf(syscall.Conn) (string, error) { return "", errors.ErrUnsupported }
