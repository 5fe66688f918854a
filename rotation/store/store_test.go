package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/store"
)

func numbered(n int) credential.Credential {
	return credential.Credential{AccessKeyID: fmt.Sprint(n), SecretKey: credential.NewSecret(fmt.Sprint(n)), Token: credential.NewSecret(fmt.Sprint(n)),
		Expires: time.Unix(int64(n), 0)}
}

func TestFailureStandsBesideTheCredential(t *testing.T) {
	var st store.Store
	s := st.Slot(credential.NewKey("a"))
	s.Publish(numbered(1), time.Unix(10, 0))
	first := errors.New("first")
	s.PublishError(first, time.Unix(11, 0), time.Unix(12, 0))
	s.PublishError(errors.New("second"), time.Unix(13, 0), time.Unix(14, 0))
	e := s.Load()
	if e.Credential.AccessKeyID != "1" || e.Err.Error() != "second" || e.Failures != 2 || !e.Since.Equal(time.Unix(11, 0)) || !e.Next.Equal(time.Unix(14, 0)) {
		t.Errorf("got %+v", e)
	}
	s.Publish(numbered(2), time.Unix(20, 0))
	if e := s.Load(); e.Err != nil || e.Failures != 0 || !e.Since.IsZero() || e.Credential.AccessKeyID != "2" {
		t.Errorf("a success did not end the failures: %+v", e)
	}
}

func TestReplacedWakesEveryReader(t *testing.T) {
	var st store.Store
	s := st.Slot(credential.NewKey("a"))
	e := s.Load()
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { <-e.Replaced() })
	}
	s.Publish(numbered(1), time.Time{})
	all.Wait()
}

func TestOneSlotAKey(t *testing.T) {
	var st store.Store
	got := make(chan *store.Slot, 64)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() { got <- st.Slot(credential.NewKey("a")) })
	}
	all.Wait()
	one := <-got
	for range 63 {
		if <-got != one {
			t.Fatal("two slots for one key")
		}
	}
}

// Every read is of one generation, however fast the writer is.
func TestReadsAreNeverTorn(t *testing.T) {
	var st store.Store
	s := st.Slot(credential.NewKey("a"))
	s.Publish(numbered(0), time.Time{})
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for last := -1; ; {
				select {
				case <-stop:
					return
				default:
				}
				c := s.Load().Credential
				n := int(c.Expires.Unix())
				if c.AccessKeyID != fmt.Sprint(n) || c.SecretKey.Reveal() != c.AccessKeyID || c.Token.Reveal() != c.AccessKeyID {
					t.Errorf("torn: %s/%s/%s/%d", c.AccessKeyID, c.SecretKey.Reveal(), c.Token.Reveal(), n)
					return
				}
				if n < last {
					t.Errorf("generation %d after %d", n, last)
					return
				}
				last = n
			}
		})
	}
	for n := 1; n <= 20_000; n++ {
		s.Publish(numbered(n), time.Time{})
	}
	close(stop)
	all.Wait()
}

func BenchmarkLoad(b *testing.B) {
	var st store.Store
	k := credential.NewKey("a")
	st.Slot(k).Publish(numbered(1), time.Time{})
	b.ReportAllocs()
	for b.Loop() {
		if st.Slot(k).Load().Credential.AccessKeyID == "" {
			b.Fatal("empty")
		}
	}
}
