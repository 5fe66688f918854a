package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// A summary is what a steady run saw.
type summary struct {
	Client     string   `json:"client"`
	Version    string   `json:"version"`
	Operations int      `json:"operations"`
	Failed     int      `json:"failed"`
	Rotations  int      `json:"rotations"` // changes of the access key
	DeadKeys   int      `json:"dead_keys"` // replaced keys that the server refused after their expiry
	Errors     []string `json:"errors,omitempty"`
}

// note counts a failed operation and keeps the first few texts.
func (s *summary) note(err error) {
	s.Failed++
	if len(s.Errors) < 5 {
		s.Errors = append(s.Errors, err.Error())
	}
}

// steady puts and gets objects without a pause until the access key has
// changed rotations times, and then until every replaced key has died. Not one
// operation may fail, and each replaced key must stop working.
func steady(ctx context.Context, c client, bucket string, rotations int, limit time.Duration) (summary, error) {
	var (
		sum    summary
		wg     sync.WaitGroup
		mu     sync.Mutex // guards deaths
		deaths []error    // one a replaced key; nil is a key that died
	)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	name := "steady-" + time.Now().Format("150405.000000000")

	now, err := c.keys(ctx)
	if err != nil {
		return sum, fmt.Errorf("asking the default chain: %w", err)
	}
	for sum.Rotations < rotations {
		if ctx.Err() != nil {
			sum.note(fmt.Errorf("only %d changes of the key in %v", sum.Rotations, limit))
			break
		}
		next, err := c.keys(ctx)
		if err != nil {
			sum.Operations++
			sum.note(fmt.Errorf("refreshing: %w", err))
			continue
		}
		if next.id != now.id {
			old := now
			now = next
			sum.Rotations++
			wg.Go(func() {
				err := outlive(ctx, c.with(old), old, bucket, name)
				mu.Lock()
				defer mu.Unlock()
				deaths = append(deaths, err)
			})
		}
		sum.Operations++
		if err := roundTrip(ctx, c, bucket, name); err != nil && ctx.Err() == nil {
			sum.note(err)
		}
	}
	wg.Wait()
	for _, err := range deaths {
		if err != nil {
			sum.note(err)
			continue
		}
		sum.DeadKeys++
	}
	if sum.Failed > 0 {
		return sum, fmt.Errorf("%d of %d operations failed", sum.Failed, sum.Operations)
	}
	return sum, nil
}

// outlive waits until the keys of c have expired and returns nil once the
// server refuses them. A server may be a moment late; it has five seconds.
func outlive(ctx context.Context, c client, old keys, bucket, name string) error {
	if old.expires.IsZero() {
		return errors.New("a key without an expiry was replaced: nothing shows that it died")
	}
	wait := time.NewTimer(time.Until(old.expires))
	defer wait.Stop()
	for end := old.expires.Add(5 * time.Second); ; wait.Reset(200 * time.Millisecond) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("a replaced key was not outlived: %w", ctx.Err())
		case <-wait.C:
		}
		_, err := c.get(ctx, bucket, name)
		switch code := c.status(err); {
		case code == http.StatusForbidden || code == http.StatusUnauthorized || code == http.StatusBadRequest:
			return nil
		case time.Now().After(end) && err == nil:
			return errors.New("a replaced key still works five seconds after its expiry")
		case time.Now().After(end):
			return fmt.Errorf("a replaced key is neither refused nor accepted: %w", err)
		}
	}
}
