package agent

import "time"

// Now is the one place where the wall clock is read. Its times are in UTC and
// have no monotonic reading: they are compared with dates that others wrote.
func Now() time.Time { return time.Now().Round(0).UTC() }
