package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/store"
)

// busy is how somebody on the way to a credential asks to be left alone, who is
// no upstream of credentials.
type busy time.Duration

func (b busy) Error() string        { return "busy" }
func (b busy) Delay() time.Duration { return time.Duration(b) }

// Whoever asks to be left alone is, for as long as the credential lets us.
func TestARetryAfterIsObeyedWithinReason(t *testing.T) {
	now := rotation.Clock{Wall: epoch, Boot: time.Hour}
	rules := rotation.Rules{RefreshAfter: time.Hour}
	said := func(wait time.Duration) error { return fmt.Errorf("the token: %w", busy(wait)) }
	for name, c := range map[string]struct {
		err      error
		left     time.Duration
		orphaned bool
		least    time.Duration
		most     time.Duration
	}{
		"a token endpoint":                 {said(2 * time.Minute), 6 * time.Hour, false, 2 * time.Minute, 150 * time.Second},
		"for an hour":                      {said(time.Hour), 6 * time.Hour, false, 5 * time.Minute, 375 * time.Second},
		"with little left":                 {said(time.Hour), 20 * time.Minute, false, 30 * time.Second, 38 * time.Second},
		"the parent's upstream, not ours":  {said(time.Hour), 6 * time.Hour, true, 0, time.Second},
		"a refusal that says when":         {&source.Error{Op: "call", Code: "AccessDenied", Kind: source.ErrAccessDenied, RetryAfter: 3 * time.Minute}, 6 * time.Hour, false, 3 * time.Minute, 225 * time.Second},
		"the second of two":                {errors.Join(errors.New("down"), said(2*time.Minute)), 6 * time.Hour, false, 2 * time.Minute, 150 * time.Second},
		"nobody":                           {errors.New("down"), 6 * time.Hour, false, 0, time.Second},
		"one who wants it all the same at": {said(-time.Minute), 6 * time.Hour, false, 0, time.Second},
	} {
		for _, draw := range []float64{0, 0.999} {
			s := rotation.Begin(generation(1, epoch, now.Boot, c.left), now, draw)
			s.Failure(c.err, now, nil, draw, c.orphaned)
			if wait := s.Next(now, rules, nil, rotation.NoParent); wait < c.least || wait > c.most {
				t.Errorf("%s: waits %v, want %v to %v", name, wait, c.least, c.most)
			}
		}
	}
}

// What has come over a reboot is served, and renewed within the splay: its age is
// the word of a clock that nobody has set yet.
func TestWhatOutlastedARebootIsRenewedSoon(t *testing.T) {
	for name, c := range map[string]struct {
		received time.Duration
		least    time.Duration
		most     time.Duration
	}{
		"over a reboot":  {-5 * time.Minute, 0, 3 * time.Minute},
		"over a restart": {time.Minute, 20 * time.Minute, time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			boot := func() time.Duration { return time.Since(began) + 2*time.Minute }
			st, s := &store.Store{}, &script{life: 12 * time.Hour, boot: boot}
			left := generation(9, time.Now().Add(c.received-2*time.Minute), c.received, 12*time.Hour)
			st.Slot(key).Publish(left, time.Now())
			ctx, cancel := context.WithCancel(t.Context())
			var first time.Duration
			m := rotation.New(st, rotation.Options{RefreshAfter: time.Hour, Splay: 3 * time.Minute, Parallel: 1, Now: time.Now, Boot: boot, Host: "a",
				Observe: func(rotation.Event) { first = time.Since(began); cancel() }}, []rotation.Job{{Key: key, Source: s, Timeout: time.Second}})
			if got, err := m.Credential(ctx, key); err != nil || got.AccessKeyID != left.AccessKeyID {
				t.Errorf("%s: served is %s: %v", name, got.ID(), err)
			}
			m.Run(ctx)
			if first < c.least || first > c.most {
				t.Errorf("%s: renewed after %v, want %v to %v", name, first, c.least, c.most)
			}
		})
	}
}
