package imds_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/imdstest"
)

// Those that are open are counted, whether they ask or not.
func TestConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := imdstest.NewListener(address)
		srv := imds.New(options(address, hello))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(ctx, l) }()
		var open []*imdstest.Conn
		for range 3 {
			conn, err := l.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, conn)
		}
		synctest.Wait()
		if n := srv.Connections(); n != 3 {
			t.Errorf("%d connections are open, want 3", n)
		}
		if _, err := imdstest.Exchange(t.Context(), open[0], getRequest); err != nil {
			t.Fatal(err)
		}
		_ = open[1].Close()
		synctest.Wait()
		if n := srv.Connections(); n != 1 {
			t.Errorf("%d connections are open, want 1", n)
		}
		_ = open[2].Close()
		cancel()
		if err := <-ended; err != nil || srv.Connections() != 0 {
			t.Errorf("at the end %d are open, %v", srv.Connections(), err)
		}
	})
}
