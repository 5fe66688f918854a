package token_test

import (
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/token"
)

// The limits are what is allocated today: the 40 bytes, the sum that the tag
// is cut from, and for a new token its text, twice.
const issueAllocs, checkAllocs = 4, 2

func TestAllocations(t *testing.T) {
	now := clock(time.Hour)
	s := sealer(&now)
	tok := s.Issue(time.Hour)
	bad := tok[:20] + "AAAA" + tok[24:]
	for what, c := range map[string]struct {
		limit float64
		do    func()
	}{
		"a new token":       {issueAllocs, func() { s.Issue(time.Hour) }},
		"a token":           {checkAllocs, func() { _, _ = s.Check(tok) }},
		"an altered token":  {checkAllocs, func() { _, _ = s.Check(bad) }},
		"no token":          {0, func() { _, _ = s.Check("") }},
		"a shortened token": {0, func() { _, _ = s.Check(tok[:55]) }},
	} {
		// The least of some: a pool may lose what it holds at any time, and under
		// the race detector does so on purpose.
		least := testing.AllocsPerRun(1, c.do)
		for range 100 {
			least = min(least, testing.AllocsPerRun(1, c.do))
		}
		if least > c.limit {
			t.Errorf("%s takes %v allocations, the limit is %v", what, least, c.limit)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	now := clock(time.Hour)
	s := sealer(&now)
	b.ReportAllocs()
	for b.Loop() {
		if len(s.Issue(token.MaxTTL)) != token.Length {
			b.Fatal("no token")
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	now := clock(time.Hour)
	s := sealer(&now)
	tok := s.Issue(token.MaxTTL)
	for _, c := range []struct {
		name, tok string
		good      bool
	}{{"good", tok, true}, {"altered", tok[:20] + "AAAA" + tok[24:], false}, {"short", tok[:55], false}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Check(c.tok); (err == nil) != c.good {
					b.Fatal(err)
				}
			}
		})
	}
}
