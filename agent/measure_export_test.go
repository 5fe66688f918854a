package agent

import "context"

// OpenMetrics opens the address of an agent's metrics and counts the tasks that
// serve it.
func OpenMetrics(ctx context.Context, a *Agent) (tasks int, closeSocket func()) {
	all, closeSocket := a.meter.open(ctx)
	return len(all), closeSocket
}

// Denial is denial.
var Denial = denial

// ErrRejected is errRejected.
var ErrRejected = errRejected
