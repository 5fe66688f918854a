package host_test

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/caller"
)

// measure makes connections to s, and identifies every other one. It reports
// the median time from the accepted connection to its end without, and what the
// identity adds to it.
func measure(b *testing.B, s server, identify func(caller.Conn)) {
	b.Helper()
	var took [2][]time.Duration
	for i := 0; b.Loop(); i++ {
		client, err := net.Dial("tcp", s.addr().String())
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		conn, err := s.l.AcceptTCP()
		if err != nil {
			b.Fatal(err)
		}
		if i%2 == 1 {
			raw, err := conn.SyscallConn()
			if err != nil {
				b.Fatal(err)
			}
			identify(caller.Conn{Local: plain(conn.LocalAddr()), Remote: plain(conn.RemoteAddr()), Raw: raw})
		}
		took[i%2] = append(took[i%2], time.Since(began))
		for _, c := range []net.Conn{client, conn} {
			_ = c.(*net.TCPConn).SetLinger(0) // leaves no port behind
			_ = c.Close()
		}
	}
	if len(took[0]) == 0 || len(took[1]) == 0 {
		return
	}
	without, with := median(took[0]), median(took[1])
	b.ReportMetric(without, "µs-without")
	b.ReportMetric(with-without, "µs-added")
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2]) / float64(time.Microsecond)
}
