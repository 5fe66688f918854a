package agent

import (
	"context"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
)

// Supervise is supervise.
var Supervise = supervise

// A Task is a task.
type Task = task

// NewTask makes one.
var NewTask = func(name string, run taskFunc) task { return task{name, run} }

// Measure opens the address of an agent's metrics, and reports whether they
// are served.
func (a *Agent) Measure(ctx context.Context) (served bool, closeSocket func()) {
	all, closeSocket := a.measure(ctx)
	return len(all) > 0, closeSocket
}

// Live are the credentials that the next process is left.
func (a *Agent) Live() map[credential.Key]credential.Credential { return a.live() }

// Tries returns a fresh limit of what changes of the network cause.
func Tries() func(time.Duration) bool { return new(tries).may }
