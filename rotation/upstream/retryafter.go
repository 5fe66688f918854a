package upstream

import (
	"net/http"
	"strconv"
	"time"
)

// longestRetryAfter is what is believed of a Retry-After.
const longestRetryAfter = time.Hour

// RetryAfter is how long an answer asks to be left alone, up to an hour; 0 when
// it does not say. A date counts from the Date of the same answer, so that no
// clock of ours has a part in it.
func RetryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	wait := time.Duration(0)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		wait = time.Duration(min(max(n, 0), int64(longestRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		if date, err := http.ParseTime(h.Get("Date")); err == nil {
			wait = at.Sub(date)
		}
	}
	return min(max(wait, 0), longestRetryAfter)
}

// A Later is the failure of a call whose answer asked to be left alone for a
// while. It reads like Err.
type Later struct {
	Err  error
	Wait time.Duration // as [RetryAfter] reads it
}

// After is err, which tells of how long the answer with that header asks to be
// left alone, if it does.
func After(h http.Header, err error) error {
	if wait := RetryAfter(h); wait > 0 && err != nil {
		return &Later{err, wait}
	}
	return err
}

// Error is that of Err.
func (l *Later) Error() string { return l.Err.Error() }

// Unwrap returns Err.
func (l *Later) Unwrap() error { return l.Err }

// Delay is Wait; see source.RetryAfter.
func (l *Later) Delay() time.Duration { return l.Wait }
