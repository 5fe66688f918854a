package agent_test

import (
	"flag"
	"os"
	"testing"
)

// The drill waits for real renewals and uses no processor: one case for each
// processor at a time would take many minutes.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "24"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
