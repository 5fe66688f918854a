package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Interval is within which time the service manager wants to hear of progress;
// 0 when it does not watch.
func Interval() (time.Duration, error) {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("reading how often the service manager looks: %w", err)
	}
	return d, nil
}

// beats is how often in an interval progress is looked for.
const beats = 4

// Watch tells the service manager, four times within each interval, that the
// daemon makes progress, for as long as progress says so and until ctx ends. It
// gives progress the time between two looks, and tell the errors and the nils of
// telling. Progress is what only a fault of this program can stop, and never the
// health of an upstream: a restart mends none. With an interval of 0 it only
// waits for ctx.
func Watch(ctx context.Context, interval time.Duration, progress func(since time.Duration) bool, tell func(error)) {
	if interval <= 0 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(interval / beats)
	defer tick.Stop()
	for {
		if progress(interval / beats) {
			tell(notify(daemon.SdNotifyWatchdog))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
