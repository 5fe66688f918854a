package rotation_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

var (
	fleetHours = flag.Int("fleet.hours", 3, "simulated hours of TestFleet")
	fleetSplay = flag.Duration("fleet.splay", 2*time.Minute, "splay of TestFleet")
)

// The fleet, and the requests a second that STS takes from one account.
const (
	fleetHosts, fleetRoles = 10_000, 5
	quota                  = 600
	oneIn                  = 5 // an outage is simulated for a part of fleet and quota
)

// A fleet is many hosts with the same roles, and an STS that throttles.
type fleet struct {
	keys    []fleetKey
	budgets []rotation.Budget // one a host
	rules   rotation.Rules
	due     [][]int32 // keys by the second of their next look
	rate    []int     // attempts by second
	asking  []int     // hosts by second
	asked   []int     // second in which a host asked last
	quota   int
	live    int // keys with a credential
	whole   int // second in which all had one
	down    func(second int) bool
	order   *rand.Rand
	life    time.Duration
}

type fleetKey struct {
	rotation.State
	host int32
	draw func() float64
	next int // second of the next look
}

// newFleet boots all hosts in the same second. Readers that wait for their
// first credential cut the splay short.
func newFleet(hosts, hours int, splay time.Duration, readers bool) *fleet {
	f := &fleet{keys: make([]fleetKey, hosts*fleetRoles), budgets: make([]rotation.Budget, hosts),
		rules: rotation.Rules{RefreshAfter: time.Hour, Splay: splay},
		due:   make([][]int32, hours*3600+1), rate: make([]int, hours*3600+1),
		asking: make([]int, hours*3600+1), asked: make([]int, hosts), quota: quota * hosts / fleetHosts,
		down: func(int) bool { return false }, order: rand.New(rand.NewPCG(1, 2)), life: time.Hour}
	for i := range f.keys {
		k := &f.keys[i]
		k.host = int32(i / fleetRoles)
		k.draw = rotation.Draws(fmt.Sprint("host ", k.host), credential.NewKey(fmt.Sprint("role ", i%fleetRoles)))
		k.State = rotation.Begin(credential.Credential{}, f.clock(0), k.draw())
		if readers {
			k.Ask()
		}
		f.due[0] = append(f.due[0], int32(i))
	}
	return f
}

func (f *fleet) clock(second int) rotation.Clock {
	at := time.Duration(second) * time.Second
	return rotation.Clock{Wall: epoch.Add(at), Boot: time.Minute + at}
}

func (f *fleet) run() {
	throttling := &source.Error{Op: "call", Code: "Throttling", Status: 400}
	outage := &source.Error{Op: "call", Code: "ServiceUnavailable", Status: 503}
	for s := range f.due {
		now := f.clock(s)
		f.order.Shuffle(len(f.due[s]), func(i, j int) { f.due[s][i], f.due[s][j] = f.due[s][j], f.due[s][i] })
		for _, i := range f.due[s] {
			k, b := &f.keys[i], &f.budgets[f.keys[i].host]
			if k.next != s {
				continue // it was woken sooner
			}
			wait := k.Next(now, f.rules, b, rotation.NoParent)
			if wait > 0 {
				f.at(i, s, wait)
				continue
			}
			f.rate[s]++
			if f.asked[k.host] != s {
				f.asked[k.host] = s
				f.asking[s]++
			}
			switch {
			case f.down(s):
				k.Failure(outage, now, b, k.draw(), false)
			case f.rate[s] > f.quota:
				k.Failure(throttling, now, b, k.draw(), false)
			default:
				if !k.Credential.Complete() {
					if f.live++; f.live == len(f.keys) {
						f.whole = s
					}
				}
				if k.Success(credential.Credential{AccessKeyID: "ASIA", SecretKey: theSecret, Token: theSecret,
					Issued: now.Wall, Expires: now.Wall.Add(f.life), Received: now.Boot}, now, b, k.draw()) {
					for other := i / fleetRoles * fleetRoles; other < (i/fleetRoles+1)*fleetRoles; other++ {
						if f.keys[other].next > s+1 {
							f.at(other, s, 0)
						}
					}
				}
			}
			f.at(i, s, k.Next(now, f.rules, nil, rotation.NoParent))
		}
		f.due[s] = nil
	}
}

// at notes the next look. The waits are whole seconds here; the fraction is
// drawn, so that rounding does not gather what the draws have spread.
func (f *fleet) at(i int32, now int, wait time.Duration) {
	next := now + max(1, int((wait+time.Duration(f.order.Float64()*float64(time.Second)))/time.Second))
	f.keys[i].next = next
	if next < len(f.due) {
		f.due[next] = append(f.due[next], i)
	}
}

// peak is the most attempts in a window of the seconds from and to.
func (f *fleet) peak(from, to, window int) (most int) {
	for s := from; s+window <= to; s += window {
		n := 0
		for _, r := range f.rate[s : s+window] {
			n += r
		}
		most = max(most, n)
	}
	return most
}

func (f *fleet) mean(from, to int) float64 {
	n := 0
	for _, r := range f.rate[from:to] {
		n += r
	}
	return float64(n) / float64(to-from)
}

// histogram draws the peaks and means of stretches of time.
func (f *fleet) histogram(stretch, end int) string {
	var b strings.Builder
	for s := 0; s+stretch <= end; s += stretch {
		mean, peak := f.mean(s, s+stretch), f.peak(s, s+stretch, 1)
		fmt.Fprintf(&b, "%8v  mean %6.1f/s  peak %5d/s  %s\n", time.Duration(s)*time.Second, mean, peak, strings.Repeat("#", min(int(mean/8)+1, 120)))
	}
	return b.String()
}

// Ten thousand hosts with five roles each boot in the same second. The splay
// keeps them within the quota of their account, and from then on they are
// spread over all of the time.
func TestFleet(t *testing.T) {
	f := newFleet(fleetHosts, *fleetHours, *fleetSplay, false)
	f.run()
	end := *fleetHours * 3600
	t.Logf("splay %v: first %d s\n%sfrom then on\n%s", *fleetSplay, 600, f.histogram(20, 300), f.histogram(600, end))
	if most := f.peak(0, end, 1); most > quota {
		t.Errorf("%d requests in a second, the quota is %d: the splay of %v is too short", most, quota, *fleetSplay)
	}
	if f.live != len(f.keys) {
		t.Errorf("%d of %d roles have a credential", f.live, len(f.keys))
	}
	// Evenly: the peak minute, and the peak second, against the mean.
	from := 10 * 60
	mean := f.mean(from, end)
	minute, second := float64(f.peak(from, end, 60))/60, float64(f.peak(from, end, 1))
	t.Logf("after 10 minutes: mean %.1f/s, peak minute %.1f/s (%.2f of the mean), peak second %.0f (%.2f of the mean)", mean, minute, minute/mean, second, second/mean)
	if minute > 1.6*mean || second > 3*mean {
		t.Errorf("the peak minute has %.2f and the peak second %.2f of the mean", minute/mean, second/mean)
	}
}

// Readers that wait cut the splay short, and then only the quota helps: every
// role has its credential soon all the same.
func TestFleetWithReaders(t *testing.T) {
	f := newFleet(fleetHosts, 1, *fleetSplay, true)
	f.run()
	t.Logf("first minutes\n%s", f.histogram(20, 600))
	ideal := len(f.keys) / quota
	t.Logf("all roles have a credential after %d s; the quota alone takes %d s", f.whole, ideal)
	if f.live != len(f.keys) || f.whole > 2*ideal {
		t.Errorf("%d of %d roles have a credential, the last after %d s, want all within %d s", f.live, len(f.keys), f.whole, 2*ideal)
	}
}

// An outage does not gather a fleet that has life left: few of the hosts ask in
// the same second, in it and after. What the quota turns away then is back soon.
func TestFleetAfterAnOutage(t *testing.T) {
	f := newFleet(fleetHosts/oneIn, 3, *fleetSplay, false)
	f.life = 6 * time.Hour
	from, to := 3600, 2*3600
	f.down = func(s int) bool { return s >= from && s < to }
	f.run()
	t.Logf("around the outage\n%s", f.histogram(120, 9000))
	during, after := slices.Max(f.asking[from:to]), slices.Max(f.asking[to:])
	t.Logf("of %d hosts ask in the peak second: %d in the outage, %d after; requests in the peak second: %d, and %d", len(f.asked), during, after, f.peak(from, to, 1), f.peak(to, len(f.rate), 1))
	// A host that is answered asks for its other roles in the next second.
	if most := len(f.asked) / 20; during > most || after > most*3/2 {
		t.Errorf("of %d hosts ask in the peak second: %d in the outage and %d after, want at most %d and %d", len(f.asked), during, after, most, most*3/2)
	}
	for i := range f.keys {
		if f.keys[i].Failures > 0 {
			t.Fatalf("role %d has failed %d times, an hour after the outage", i, f.keys[i].Failures)
		}
	}
	if calm := f.peak(to+300, 3*3600, 1); calm > f.quota {
		t.Errorf("%d requests in a second, later than 5 minutes after the outage", calm)
	}
}
