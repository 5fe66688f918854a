package agent

import (
	"net"
	"time"
)

// A Pulse is a pulse.
type Pulse = pulse

// NewPulse is newPulse.
func NewPulse(l net.Listener) *Pulse { return newPulse(l) }

// Beating is beating.
func Beating(pulses []*Pulse, now, than time.Duration) bool { return beating(pulses, now, than) }
