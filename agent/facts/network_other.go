//go:build !linux

package facts

import (
	"errors"
	"fmt"
	"runtime"
)

func read() ([]link, []address, []int, error) {
	return nil, nil, nil, fmt.Errorf("reading the network interfaces on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func listen(What) (news, error) {
	return nil, fmt.Errorf("asking for news of the network on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
