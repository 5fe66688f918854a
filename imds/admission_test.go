package imds_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/imdstest"
)

// A street is a server whose callers are told apart: who lives in house n, 1
// to 15, calls from the ports of that house.
type street struct {
	*running
	mu     sync.Mutex
	called map[int]int // guarded by mu
}

const portsOfAHouse = 4096

func startStreet(t *testing.T, o imds.Options) *street {
	t.Helper()
	o.Identifier = identifier(func(_ context.Context, l string, c caller.Conn) (caller.Caller, error) {
		house := c.Remote.Port() / portsOfAHouse
		if house == 0 {
			return caller.Caller{Listener: l, Remote: c.Remote}, errors.New("nobody lives there")
		}
		return caller.Caller{Listener: l, Remote: c.Remote, UID: caller.NewID(uint32(house))}, nil
	})
	return &street{running: start(t, o, nil), called: map[int]int{}}
}

// dial connects from a house on the host itself.
func (s *street) dial(t *testing.T, house int) *imdstest.Conn {
	t.Helper()
	return s.dialFrom(t, "169.254.169.254", house)
}

func (s *street) dialFrom(t *testing.T, addr string, house int) *imdstest.Conn {
	t.Helper()
	s.mu.Lock()
	n := s.called[house]
	s.called[house]++
	s.mu.Unlock()
	conn, err := s.DialFrom(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(house*portsOfAHouse+n%portsOfAHouse)))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// flood opens that many connections from a house, and lets the server accept
// as many as it will.
func (s *street) flood(t *testing.T, house, n int) (open []*imdstest.Conn) {
	t.Helper()
	for i := range n {
		open = append(open, s.dial(t, house))
		if i%1000 == 999 {
			synctest.Wait()
		}
	}
	synctest.Wait()
	return open
}

// answered asks and wants an answer within the time.
func (s *street) answered(t *testing.T, who string, conn *imdstest.Conn, within time.Duration) {
	t.Helper()
	begin := time.Now()
	a, err := imdstest.Exchange(t.Context(), conn, getRequest)
	if took := time.Since(begin); err != nil || a.Status != 200 || took > within {
		t.Errorf("%s got %d and %v after %v, want 200 within %v", who, a.Status, err, took, within)
	}
}

// Whatever one party does, another is answered at once: thousands of connections
// that say nothing, or not enough, or do not read.
func TestFloodHurtsNobodyElse(t *testing.T) {
	for name, c := range map[string]struct {
		say       string
		thousands int
	}{
		"silent":      {"", 10},
		"a slow head": {getRequest[:20], 10},
		"a slow body": {"PUT / HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 9\r\n\r\n", 3},
		"no reader":   {getRequest, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := options(address, func(ctx context.Context, r *imds.Request) imds.Response {
					if r.Caller.UID == caller.NewID(1) {
						return imds.Response{Status: 200, Body: make([]byte, 128<<10)} // more than a window
					}
					return hello(ctx, r)
				})
				s := startStreet(t, o)
				for range c.thousands {
					for _, conn := range s.flood(t, 1, 1000) {
						_, _ = io.WriteString(conn, c.say)
					}
					for _, house := range []int{2, 3} {
						s.answered(t, "a neighbour", s.dial(t, house), 0)
					}
				}
				s.answered(t, "whom nobody knows", s.dial(t, 0), 0)
				s.answered(t, "a guest with the same uid", s.dialFrom(t, "172.17.0.2", 1), 0)
				// Neither does the crowd lock itself out for good.
				s.answered(t, "one more of the crowd", s.dial(t, 1), 20*time.Second)
			})
		})
	}
}

// The flood is over within seconds of its end.
func TestFloodIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStreet(t, options(address, hello))
		open := s.flood(t, 1, 4000)
		for _, conn := range open {
			_ = conn.Close()
		}
		s.answered(t, "the same party", s.dial(t, 1), 0)
	})
}

// A party alone may have half of the places, and a quarter when others want
// theirs; all of them together may have all.
func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		busy, free := map[string]int{}, make(chan struct{})
		o := options(address, func(ctx context.Context, r *imds.Request) imds.Response {
			mu.Lock()
			busy[r.Caller.UID.String()]++
			mu.Unlock()
			<-free
			mu.Lock()
			busy[r.Caller.UID.String()]--
			mu.Unlock()
			return hello(ctx, r)
		})
		s := startStreet(t, o)
		var all sync.WaitGroup
		crowd := func(house, n int) {
			for range n {
				conn := s.dial(t, house)
				all.Go(func() { s.answered(t, "everybody, in the end,", conn, time.Second) })
			}
			synctest.Wait()
		}
		want := func(when string, shares ...int) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			for i, n := range shares {
				if got := busy[caller.NewID(uint32(i+1)).String()]; got != n {
					t.Errorf("%s: house %d has %d places, want %d", when, i+1, got, n)
				}
			}
		}
		crowd(1, 700)
		want("one crowd", 512)
		crowd(2, 300)
		want("two crowds", 512, 256)
		crowd(3, 200)
		want("three crowds", 512, 256, 200)
		crowd(4, 100)
		want("a full house", 512, 256, 200, 56)
		crowd(5, 1)
		want("one more", 512, 256, 200, 56, 0)
		free <- struct{}{} // the first who came
		synctest.Wait()
		want("after one has left, who has least is next", 511, 256, 200, 56, 1)
		close(free)
		all.Wait()
	})
}

// Whoever has many addresses is one party all the same: on the host every
// process has a whole loopback network, and its neighbour 2^64 addresses of
// IPv6.
func TestManyAddressesAreOneParty(t *testing.T) {
	for name, addr := range map[string]func(i int) string{
		"loopback":    func(i int) string { return fmt.Sprintf("127.1.%d.%d", i/250, i%250+1) },
		"one's own":   func(i int) string { return []string{"169.254.169.254", "127.0.0.1", "::1"}[min(i%7, 2)] },
		"a neighbour": func(i int) string { return fmt.Sprintf("2001:db8::%x", i) },
	} {
		synctest.Test(t, func(t *testing.T) {
			var busy atomic.Int64
			free := make(chan struct{})
			s := startStreet(t, options(address, func(ctx context.Context, r *imds.Request) imds.Response {
				busy.Add(1)
				<-free
				return hello(ctx, r)
			}))
			for i := range 700 {
				_, _ = io.WriteString(s.dialFrom(t, addr(i), 1), getRequest)
			}
			synctest.Wait()
			if got := busy.Load(); got != 512 {
				t.Errorf("%s: %d places for one party, want 512", name, got)
			}
			close(free)
		})
	}
}

// When all is open that may be, the largest crowd loses what has waited
// longest, and only that.
func TestEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStreet(t, options(address, hello))
		var first []*imdstest.Conn // 512 served, 988 wait
		for range 1500 {
			first = append(first, s.flood(t, 1, 1)...)
		}
		second := s.flood(t, 2, 400) // 256 served, 144 wait
		third := s.flood(t, 3, 300)  // beyond 2048
		gone := func(conns []*imdstest.Conn) (n, highest int) {
			for i, c := range conns {
				_ = c.SetReadDeadline(time.Now())
				if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset") {
					n, highest = n+1, i
				}
			}
			return n, highest
		}
		// One place is kept for who comes next.
		if n, highest := gone(first); n != 1500+400+300-2047 || highest != 512+n-1 {
			t.Errorf("of the largest crowd %d were sent away, the last of them the %dth, want 153 of those that waited longest", n, highest)
		}
		for i, conns := range [][]*imdstest.Conn{second, third} {
			if n, _ := gone(conns); n != 0 {
				t.Errorf("of a smaller crowd, the %dth, %d were sent away", i+2, n)
			}
		}
	})
}

// However the houses call, hang up and are answered: every place is given back,
// and everybody who stays is answered.
func TestAdmissionNeverForgetsAnybody(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) {
			draw := rand.New(rand.NewPCG(seed, 0))
			s := startStreet(t, options(address, hello))
			var silent []*imdstest.Conn
			for range 1 + draw.IntN(12) {
				crowd := s.flood(t, 1+draw.IntN(4), 1+draw.IntN(600))
				if draw.IntN(2) == 0 {
					for _, c := range crowd {
						_ = c.Close()
					}
				} else {
					silent = append(silent, crowd...)
				}
			}
			for house := range 15 {
				s.answered(t, "a caller", s.dial(t, house), 30*time.Second)
			}
			for _, c := range silent {
				_ = c.Close()
			}
			synctest.Wait()
			// All that one party may have at once are free again.
			var all sync.WaitGroup
			for range 512 {
				conn := s.dial(t, 1)
				all.Go(func() { s.answered(t, "a caller after all that", conn, 0) })
			}
			all.Wait()
		})
	}
}
