//go:build !linux

package occupant

import "errors"

func listening(uint16) ([]socket, error) { return nil, errors.ErrUnsupported }
