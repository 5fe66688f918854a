package netns_test

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/hostrole/hostrole/imds/caller"
)

// A surrounding is what else there is: containers on the bridge, and sockets in
// the one that calls.
type surrounding struct{ containers, sockets int }

// BenchmarkBridged is what the identity of a caller behind a bridge adds to its
// connection: every other one is identified, and the difference of the medians
// is shown as µs-added. What else there is makes no difference.
func BenchmarkBridged(b *testing.B) {
	for _, n := range []surrounding{{1, 10}, {20, 10}, {100, 10}, {1, 1000}, {1, 9000}, {100, 9000}} {
		b.Run(fmt.Sprintf("containers=%d/sockets=%d", n.containers, n.sockets), func(b *testing.B) {
			if err := identify(b, n); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// It costs no more on a host with many containers and sockets.
func TestBridgedCallerCostsNoMore(t *testing.T) {
	ownnet.Need(t)
	added := func(n surrounding) float64 {
		var why error
		r := testing.Benchmark(func(b *testing.B) { why = identify(b, n) })
		if why != nil {
			t.Fatal(why)
		}
		t.Logf("%+v: %.1f µs added to %.1f µs, in %d rounds", n, r.Extra["µs-added"], r.Extra["µs-without"], r.N)
		if r.N < 100 {
			t.Fatalf("only %d rounds: this test shows nothing", r.N)
		}
		return r.Extra["µs-added"]
	}
	few, many := added(surrounding{1, 10}), added(surrounding{100, 9000})
	if many > 1.5*few+2*slower { // to ask all containers takes a hundred times as long
		t.Errorf("%.1f µs are added with many containers and sockets, and %.1f with few", many, few)
	}
}

func identify(b *testing.B, n surrounding) error {
	b.Helper()
	e := newEnricher(b)
	s := listen(b, metadataV4+":0")
	for i := range n.containers - 1 {
		contain(b, 1300, fmt.Sprintf("172.30.0.%d/24", 100+i), false)
	}
	c := contain(b, 1234, "172.30.0.2/24", false)
	c.tell(fmt.Sprintf("crowd %d", n.sockets/2))
	var took [2][]time.Duration
	for i := 0; b.Loop(); i++ {
		c.tell("dial - " + s.addr())
		began := time.Now()
		conn, at := s.accept()
		if i%2 == 1 {
			var who caller.Caller
			if err := e.Enrich(b.Context(), at, &who); err != nil {
				return err
			}
		}
		took[i%2] = append(took[i%2], time.Since(began))
		_ = conn.SetLinger(0) // leaves no port behind
		_ = conn.Close()
		c.tell("close")
	}
	if len(took[0]) == 0 || len(took[1]) == 0 {
		return nil
	}
	without, with := median(took[0]), median(took[1])
	b.ReportMetric(without, "µs-without")
	b.ReportMetric(with-without, "µs-added")
	return nil
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2]) / float64(time.Microsecond)
}

// crowd opens connections of a container to itself.
func crowd(n int) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	for range n {
		near, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			return err
		}
		far, err := l.Accept()
		if err != nil {
			return err
		}
		crowded = append(crowded, near, far)
	}
	return nil
}

var crowded []net.Conn // which nobody closes
