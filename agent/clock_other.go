//go:build !linux

package agent

import "time"

var started = time.Now()

// Boot is the time since this process started.
func Boot() time.Duration { return time.Since(started) }

func bootID() string { return "" }
