//go:build !linux

package handover

import (
	"errors"
	"fmt"
	"os"
)

// Seal works on Linux only.
func Seal([]byte) (*os.File, error) {
	return nil, fmt.Errorf("making sealed memory: %w", errors.ErrUnsupported)
}

// Unseal works on Linux only.
func Unseal(*os.File) ([]byte, error) {
	return nil, fmt.Errorf("reading sealed memory: %w", errors.ErrUnsupported)
}
