//go:build !linux

package hostaddr

import (
	"errors"
	"net/netip"
	"time"
)

func expireAddress(link, netip.Addr, time.Duration) error { return errors.ErrUnsupported }
