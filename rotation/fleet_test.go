package rotation_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

var (
	fleetHours = flag.Int("fleet.hours", 3, "simulated hours of TestFleet")
	fleetSplay = flag.Duration("fleet.splay", defaultSplay, "splay of TestFleet")
)

// defaultSplay is that of the configuration.
const defaultSplay = 3 * time.Minute

// The fleet, and the requests a second that STS takes from one account.
const (
	fleetHosts, fleetRoles = 10_000, 5
	quota                  = 600
	oneIn                  = 5 // an outage is simulated for a part of fleet and quota
)

// tick is what an answer takes: what hears of it does so a tick later.
const (
	tick  = 200 * time.Millisecond
	ticks = int(time.Second / tick)
)

// A fleet is many hosts with the same roles, and an STS that throttles.
type fleet struct {
	keys    []fleetKey
	budgets []rotation.Budget // one a host
	rules   rotation.Rules
	due     [][]int32 // keys by the tick of their next look
	rate    []int     // attempts by second
	turned  []int     // attempts that were throttled, by second
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
	next int // tick of the next look
	late int // ticks from when a reader asked until the first credential; 0 while nobody has
	ask  int // tick in which a reader asks; -1 for none
}

// newFleet boots all hosts in the same second.
func newFleet(hosts, hours int, splay time.Duration) *fleet {
	seconds := hours*3600 + 1
	f := &fleet{keys: make([]fleetKey, hosts*fleetRoles), budgets: make([]rotation.Budget, hosts),
		rules: rotation.Rules{RefreshAfter: time.Hour, Splay: splay},
		due:   make([][]int32, seconds*ticks), rate: make([]int, seconds), turned: make([]int, seconds),
		asking: make([]int, seconds), asked: make([]int, hosts), quota: quota * hosts / fleetHosts,
		down: func(int) bool { return false }, order: rand.New(rand.NewPCG(1, 2)), life: time.Hour}
	for h := range f.asked {
		f.asked[h] = -1
	}
	for i := range f.keys {
		k := &f.keys[i]
		k.host, k.ask = int32(i/fleetRoles), -1
		k.draw = rotation.Draws(fmt.Sprint("host ", k.host), credential.NewKey(fmt.Sprint("role ", i%fleetRoles)))
		k.State = rotation.Begin(credential.Credential{}, f.clock(0), k.draw())
		f.due[0] = append(f.due[0], int32(i))
	}
	return f
}

// readers has somebody ask for the first roles of each host, at a tick that is
// drawn from a stretch of time after the boot.
func (f *fleet) readers(roles int, within time.Duration) {
	for i := range f.keys {
		if i%fleetRoles < roles {
			k := &f.keys[i]
			k.ask = int(f.order.Float64() * float64(within/tick))
			f.due[k.ask] = append(f.due[k.ask], int32(i))
		}
	}
}

func (f *fleet) clock(t int) rotation.Clock {
	at := time.Duration(t) * tick
	return rotation.Clock{Wall: epoch.Add(at), Boot: time.Minute + at}
}

func (f *fleet) run() {
	throttling := &source.Error{Op: "call", Code: "Throttling", Status: 400}
	outage := &source.Error{Op: "call", Code: "ServiceUnavailable", Status: 503}
	for t := range f.due {
		now, s := f.clock(t), t/ticks
		f.order.Shuffle(len(f.due[t]), func(i, j int) { f.due[t][i], f.due[t][j] = f.due[t][j], f.due[t][i] })
		for _, i := range f.due[t] {
			k, b := &f.keys[i], &f.budgets[f.keys[i].host]
			if k.ask == t && !k.Credential.Complete() {
				k.Ask()
				k.next = t
			}
			if k.next != t {
				continue // it was woken sooner
			}
			k.next = -1
			wait := k.Next(now, f.rules, b, rotation.NoParent)
			if wait > 0 {
				f.at(i, t, wait)
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
			case f.rate[s]-f.turned[s] > f.quota:
				f.turned[s]++
				k.Failure(throttling, now, b, k.draw(), false)
			default:
				if !k.Credential.Complete() {
					k.late = t + 1 - k.ask
					if f.live++; f.live == len(f.keys) {
						f.whole = s
					}
				}
				if k.Success(credential.Credential{AccessKeyID: "ASIA", SecretKey: theSecret, Token: theSecret,
					Issued: now.Wall, Expires: now.Wall.Add(f.life), Received: now.Boot}, now, b, k.draw()) {
					for other := i / fleetRoles * fleetRoles; other < (i/fleetRoles+1)*fleetRoles; other++ {
						if f.keys[other].next > t+1 {
							f.at(other, t, 0)
						}
					}
				}
			}
			f.at(i, t, k.Next(now, f.rules, nil, rotation.NoParent))
		}
		f.due[t] = nil
	}
}

// at notes the next look. The waits are whole ticks here; the fraction is
// drawn, so that rounding does not gather what the draws have spread.
func (f *fleet) at(i int32, now int, wait time.Duration) {
	next := now + max(1, int((wait+time.Duration(f.order.Float64()*float64(tick)))/tick))
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

// The default is what the figures of the fleet are for.
func TestTheFleetRunsByTheDefault(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "packaging", "hostrole.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]time.Duration{"splay": defaultSplay, "refresh_after": time.Hour} {
		m := regexp.MustCompile(`(?m)^#` + key + ` *= "([^"]*)"`).FindSubmatch(text)
		if m == nil {
			t.Errorf("the packaged file says no %s", key)
		} else if got, err := time.ParseDuration(string(m[1])); err != nil || got != want {
			t.Errorf("the default of %s is %s, and the fleet runs with %v", key, m[1], want)
		}
	}
}

// Ten thousand hosts with five roles each boot in the same second. The splay
// keeps them within the quota of their account, and from then on they are
// spread over all of the time.
func TestFleet(t *testing.T) {
	f := bootedFleet()
	if *fleetHours != 3 || *fleetSplay != defaultSplay {
		f = newFleet(fleetHosts, *fleetHours, *fleetSplay)
		f.run()
	}
	end := *fleetHours * 3600
	t.Logf("splay %v: first %d s\n%sfrom then on\n%s", *fleetSplay, 600, f.histogram(20, 300), f.histogram(1800, end))
	most := f.peak(0, end, 1)
	t.Logf("peak second: %d of %d", most, quota)
	if most > quota {
		t.Errorf("%d requests in a second, the quota is %d: the splay of %v is too short", most, quota, *fleetSplay)
	}
	if f.live != len(f.keys) || f.whole > int(*fleetSplay/time.Second) {
		t.Errorf("%d of %d roles have a credential, the last after %d s", f.live, len(f.keys), f.whole)
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

// Readers that wait cut the splay short. While those for one role of each host
// come within a minute, nobody is turned away. When all come at once, only the
// quota helps, and every role has its credential soon all the same.
func TestFleetWithReaders(t *testing.T) {
	for name, c := range map[string]struct {
		roles  int
		within time.Duration
		turned int           // away, at most
		late   time.Duration // the longest that a reader waits
	}{
		"one role, within a minute":   {1, time.Minute, 0, tick},
		"all roles, within 3 minutes": {fleetRoles, 3 * time.Minute, 0, tick},
		"one role, at once":           {1, 0, 2 * fleetHosts, time.Minute},
		"all roles, at once":          {fleetRoles, 0, 2 * fleetHosts * fleetRoles, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(fleetHosts, 1, *fleetSplay)
			f.readers(c.roles, c.within)
			f.run()
			turned := 0
			for _, n := range f.turned {
				turned += n
			}
			var late []time.Duration
			for i := range f.keys {
				if k := &f.keys[i]; k.ask >= 0 && k.late > 0 {
					late = append(late, time.Duration(k.late)*tick)
				}
			}
			slices.Sort(late)
			half, most := late[len(late)/2], late[len(late)-1]
			t.Logf("peak second %d requests, of which STS took %d; turned away %d in all; who asked waited %v in the middle and %v at most; all roles after %d s",
				f.peak(0, 3600, 1), min(f.quota, f.peak(0, 3600, 1)), turned, half, most, f.whole)
			ideal := max(f.splay(), len(f.keys)/quota)
			if f.live != len(f.keys) || f.whole > 2*ideal {
				t.Errorf("%d of %d roles have a credential, the last after %d s, want all within %d s", f.live, len(f.keys), f.whole, 2*ideal)
			}
			if turned > c.turned || most > c.late {
				t.Errorf("%d were turned away, and one waited %v, want at most %d and %v", turned, most, c.turned, c.late)
			}
		})
	}
}

func (f *fleet) splay() int { return int(f.rules.Splay / time.Second) }

// An outage does not gather a fleet that has life left: few of the hosts ask in
// the same second, in it and after. What the quota turns away then is back soon.
func TestFleetAfterAnOutage(t *testing.T) {
	f := outageFleet()
	from, to := outageFrom, outageTo
	t.Logf("around the outage\n%s", f.histogram(120, 9000))
	during, after := slices.Max(f.asking[from:to]), slices.Max(f.asking[to:])
	share := func(n int) float64 { return 100 * float64(n) / float64(len(f.asked)) }
	t.Logf("of %d hosts ask in the peak second: %d (%.1f %%) in the outage, %d (%.1f %%) after; requests in the peak second: %d, and %d",
		len(f.asked), during, share(during), after, share(after), f.peak(from, to, 1), f.peak(to, len(f.rate), 1))
	if most := len(f.asked) / 20; during > most || after > most {
		t.Errorf("of %d hosts ask in the peak second: %d in the outage and %d after, want at most %d", len(f.asked), during, after, most)
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

const outageFrom, outageTo = 3600, 2 * 3600

// What several tests look at is run once.
var (
	// bootedFleet boots in the same second, and is left alone.
	bootedFleet = sync.OnceValue(func() *fleet {
		f := newFleet(fleetHosts, 3, defaultSplay)
		f.run()
		return f
	})
	// outageFleet is a part of the fleet that cannot reach STS for an hour.
	outageFleet = sync.OnceValue(func() *fleet {
		f := newFleet(fleetHosts/oneIn, 3, defaultSplay)
		f.life = 6 * time.Hour
		f.down = func(s int) bool { return s >= outageFrom && s < outageTo }
		f.run()
		return f
	})
)
