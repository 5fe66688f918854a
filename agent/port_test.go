package agent_test

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
)

// The ports are below those that the kernel gives to clients: of these, one that
// was free a moment ago is another test's.
const firstPort, lastPort = 20_000, 30_000

var port atomic.Int64

func init() { port.Store(int64(os.Getpid()) * 37) } // another binary begins elsewhere

// free returns an address of this host that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+port.Add(1)%(lastPort-firstPort))
		if l, err := net.Listen("tcp4", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}
