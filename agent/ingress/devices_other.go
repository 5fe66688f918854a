//go:build !linux

package ingress

import "errors"

// Devices returns [errors.ErrUnsupported].
func Devices() ([]Device, error) { return nil, errors.ErrUnsupported }
