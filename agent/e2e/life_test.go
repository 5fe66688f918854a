//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

// keyLife is that of the keys of these tests. Most SDKs ask again at its end, at
// the latest. Some take a key with less than a quarter of an hour to live for
// longer-lived: they get one that is, and their program puts their idea of its
// end to now before each turn.
const (
	keyLife     = 5 * time.Second
	patientLife = time.Hour
)

// A succession is one hostrole after another, for one client.
type succession struct {
	m      *mint
	keeper *fileKeeper
	config string // with %s for the address
	at     string // of the process that serves
	now    *process
}

// newSuccession starts the first of them.
func newSuccession(t *testing.T, w *witness, life time.Duration) *succession {
	t.Helper()
	m := newMint(t, w, life)
	s := &succession{m: m, keeper: keepFiles(t), config: fmt.Sprintf(`version = 1
[log]
format = "json"
[admin]
socket = %q
group = "root"
[rotation]
splay = "0s"
[metadata]
region = "us-east-1"
[[listener]]
name = "host"
kind = "imds"
address = ["%%s"]
ingress = ""
manage_address = false
[[allow]]
name = "everyone"
any = true
roles = ["app"]
[source.mint]
kind = "process"
command = [%q, "-sSf", "--noproxy", "*", %q]
[role.app]
from = "source.mint"
`, filepath.Join(t.TempDir(), "admin.sock"), tool(t, "curl"), m.url)}
	s.now, s.at = s.another(t, s.keeper)
	return s
}

// another starts a hostrole with what k keeps and an address of its own, and
// waits until it has a credential.
func (s *succession) another(t *testing.T, k *fileKeeper) (*process, string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "hostrole.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, s.config, at), 0o600); err != nil {
		t.Fatal(err)
	}
	p := k.start(t, config)
	eventually(t, "the role's credential is served", 10*time.Second, func() bool { return s.serves(t, at) })
	return p, at
}

func (s *succession) serves(t *testing.T, at string) bool {
	c := on(at)
	token, err := c.Token(t.Context(), 60)
	if err != nil {
		return false
	}
	a, err := c.Get(t.Context(), token, "/latest/meta-data/iam/security-credentials/app")
	return err == nil && a.Status == http.StatusOK
}

// prepare starts a successor, which has the token key of the process that
// serves only if it is handed over.
func (s *succession) prepare(t *testing.T, handedOver bool) (take func(), at string) {
	t.Helper()
	k := s.keeper
	if !handedOver {
		k = keepFiles(t)
	}
	p, at := s.another(t, k)
	return func() {
		if err := s.now.end(syscall.SIGTERM); err != nil {
			t.Errorf("hostrole ended with %v", err)
		}
		s.now, s.at, s.keeper = p, at, k
	}, at
}

// A step is what happens around one turn of a client.
type step struct {
	name string
	how  string // "", "handed over between", "new key between", "new key before", "away", "back"
}

var steps = []step{
	{"at its start", ""},
	{"the next process, with the token key, between list and role", "handed over between"},
	{"the next process, with another key, between list and role", "new key between"},
	{"the turn after it", ""},
	{"the next process, with another key, before it asks", "new key before"},
	{"the turn after it", ""},
	{"no credential, and the old one is over", "away"},
	{"a credential again", "back"},
	{"the turn after it", ""},
}

// A resident is a client that lives for long, on its way through the steps.
type resident struct {
	sdk
	s        *succession
	argv     []string
	p        *process
	in       *os.File
	due      time.Time
	record   strings.Builder
	outcomes []string
}

// TestLife: what becomes of programs that run for weeks. Each has a hostrole of
// its own behind the one address; of two processes the next one takes over at a
// point that no real restart could hit every time. What a client asks, and how
// its turn ends, is in its golden file; the words for it are in the matrix.
func TestLife(t *testing.T) { lives(t, sdks) }

// TestFieldLife is TestLife with the clients that take minutes to install.
func TestFieldLife(t *testing.T) {
	fieldOnly(t)
	lives(t, field)
}

// stage is what these tests have in common.
func stage(t *testing.T) (*witness, *relay) {
	t.Helper()
	ownnet.Need(t)
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root: in a user namespace hostrole cannot tell callers apart, and does not start")
	}
	noteSources(t)
	startMinIO(t, nil)
	mustS3(t, rootKeys, minioURL, http.MethodPut, "/"+bucket+"/seed", "seed")
	return newWitness(t), newRelay(t)
}

func lives(t *testing.T, clients []sdk) {
	w, r := stage(t)
	var all []*resident
	for _, c := range clients {
		if c.loop == nil {
			continue
		}
		life := keyLife
		if c.patient {
			life = patientLife
		}
		l := &resident{sdk: c, s: newSuccession(t, w, life), argv: append(c.loop(t), w.url, bucket)}
		l.begin(t)
		all = append(all, l)
	}
	for _, s := range steps {
		for _, l := range all {
			if s.how == "away" && strings.HasPrefix(l.outcomes[len(l.outcomes)-1], "fails") {
				// Its token holds it up. A new one shows what there is to see.
				so := l.outcomes
				l.begin(t)
				l.turn(t, r, w, step{"anew", ""})
				l.outcomes = so
			}
			l.before(t, s)
		}
		for _, l := range all {
			l.turn(t, r, w, s)
		}
	}
	for _, l := range all {
		t.Run(l.name, func(t *testing.T) {
			golden(t, filepath.Join("testdata", "sdk", "life-"+l.name+".txt"), l.record.String)
			if got := judgeLife(l.outcomes); got != l.life {
				t.Errorf("its life is %q, the matrix says %q", got, l.life)
			}
		})
	}
}

// begin starts the client, which says who it is, in the place of an earlier one.
func (l *resident) begin(t *testing.T) {
	t.Helper()
	if l.p != nil {
		_ = l.in.Close()
		_ = l.p.end(syscall.SIGTERM)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(l.argv[0], l.argv[1:]...)
	cmd.Env, cmd.Stdin = bare(t), in
	l.p, l.in = start(t, l.name, cmd), out
	t.Cleanup(func() { _ = out.Close() })
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	r := l.reply(t, 0)
	l.known(t, r.Client, r.Version)
}

// A reply is a line of a client.
type reply struct{ Client, Version, Error string }

// reply waits for a line of JSON after the first n bytes.
func (l *resident) reply(t *testing.T, n int) (r reply) {
	t.Helper()
	l.p.await(t, "says something", 30*time.Second, func() bool {
		for line := range strings.Lines(l.p.out.since(n)) {
			if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &r) == nil {
				return true
			}
		}
		return false
	})
	return r
}

// before is what takes its time.
func (l *resident) before(t *testing.T, s step) {
	t.Helper()
	switch s.how {
	case "away":
		if l.patient { // a successor whose credential ends soon
			l.s.m.mint(keyLife)
			take, _ := l.s.prepare(t, false)
			take()
		}
		l.due = l.s.m.leave(true)
	case "back":
		if l.patient {
			l.s.m.mint(patientLife)
		}
		l.s.m.leave(false)
	}
}

// turn waits until the client has to ask again, and lets it.
func (l *resident) turn(t *testing.T, r *relay, w *witness, s step) {
	t.Helper()
	if s.how == "back" {
		eventually(t, "a credential is served again", 15*time.Second, func() bool { return l.s.serves(t, l.s.at) })
	}
	<-time.After(time.Until(l.due) + 20*time.Millisecond)
	next, take := "", func() {}
	switch s.how {
	case "away":
		l.s.m.die()
	case "handed over between", "new key between":
		take, next = l.s.prepare(t, s.how == "handed over between")
	case "new key before":
		take, _ = l.s.prepare(t, false)
		take()
		take = func() {}
	}
	r.turn(l.s.at, next, l.sdk)
	w.forget()
	n := l.p.out.size()
	if _, err := fmt.Fprintln(l.in, "go"); err != nil {
		t.Fatal(err)
	}
	said := l.reply(t, n)
	asked, changed := r.end()
	take()
	if !l.patient {
		l.due = l.s.m.ends()
	}
	if !changed {
		t.Errorf("%s, %s: it did not ask for its roles: %q", l.name, s.name, asked)
	}
	outcome := "fails"
	switch {
	case said.Error == "" && len(asked) > 0 && strings.HasSuffix(asked[len(asked)-1], " 401"):
		outcome = "works with the old key"
	case said.Error == "":
		outcome = "works"
	case w.refused() > 0:
		outcome = "fails with a dead key"
	}
	if said.Error != "" {
		t.Logf("%s, %s: %.300s", l.name, s.name, said.Error)
	}
	l.outcomes = append(l.outcomes, outcome)
	if l.insists {
		slices.Sort(asked)
		asked = slices.Compact(asked)
	}
	fmt.Fprintf(&l.record, "%s: %s\n", s.name, outcome)
	for _, a := range asked {
		fmt.Fprintf(&l.record, "  %s\n", a)
	}
}

// A life is what a client does when something happens to its token or to its
// credential, in the words of packaging/docs/clients.md.
type life struct {
	restart string // between two of its requests, as the service restarts: the token key is handed over
	on401   string // its token is good no more
	expiry  string // its credential is over, and there is no other
}

const (
	unnoticed = "does not notice"
	recovers  = "recovers within the request"
	once      = "one request fails"
	between   = "one request fails if it happens within a fetch"
	twice     = "two requests fail"
	keeps     = "keeps its key, and asks again after minutes"
	stubborn  = "fails until its token is over"
	stale     = "keeps the dead key for minutes"
	runFails  = "the run fails"
	anew      = "each run starts anew"
)

// judgeLife finds the words for the outcomes of the steps.
func judgeLife(o []string) life {
	l := life{unnoticed, recovers, once}
	if o[0] != "works" || o[1] != "works" {
		l.restart = once
	}
	switch {
	case o[2] == "works with the old key":
		l.on401 = keeps
	case o[3] != "works" || o[5] != "works":
		l.on401 = stubborn
	case o[2] != "works" && o[4] != "works":
		l.on401 = once
	case o[2] != "works":
		l.on401 = between
	}
	switch {
	case o[6] == "works":
		l.expiry = unnoticed
	case o[8] != "works":
		l.expiry = stale
	case o[7] != "works":
		l.expiry = twice
	}
	return l
}

// TestRuns is TestLife for tools that end: of what happens to a client, only a
// restart can happen to a run. Between the list of its roles and its role, the
// next process takes over.
func TestRuns(t *testing.T) { runs(t, sdks) }

// TestFieldRuns is TestRuns with the clients that take minutes to install.
func TestFieldRuns(t *testing.T) {
	fieldOnly(t)
	runs(t, field)
}

func runs(t *testing.T, clients []sdk) {
	w, r := stage(t)
	for _, c := range clients {
		if c.life.expiry != anew {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			s := newSuccession(t, w, patientLife)
			got := life{unnoticed, recovers, anew}
			for _, handedOver := range []bool{true, false} {
				argv := append(c.argv(t), w.url, bucket)
				take, next := s.prepare(t, handedOver)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
				cmd.Env, cmd.WaitDelay = bare(t), time.Second
				r.turn(s.at, next, c)
				out, err := cmd.CombinedOutput()
				asked, changed := r.end()
				cancel()
				take()
				if !changed {
					t.Errorf("it did not ask for its roles: %q\n%s", asked, out)
				}
				if err != nil {
					t.Logf("the token key handed over: %v: %v\n%.500s", handedOver, err, out)
				}
				if err != nil && handedOver {
					got.restart = runFails
				} else if err != nil {
					got.on401 = runFails
				}
			}
			if got != c.life {
				t.Errorf("its life is %q, the matrix says %q", got, c.life)
			}
		})
	}
}
