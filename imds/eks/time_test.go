package eks_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
)

var cart = map[string][]string{"shop/cart": {"app"}}

func TestHold(t *testing.T) {
	specimens()
	hangs := func(ctx context.Context) (jose.JSONWebKeySet, error) {
		<-ctx.Done()
		return jose.JSONWebKeySet{}, ctx.Err()
	}
	for name, c := range map[string]struct {
		setting setting
		token   string
		status  int
		took    time.Duration
	}{
		"a role without a credential":    {setting{roles: cart, credentials: newCredentials(never(gate.ErrNotReady))}, "T", 503, 400 * time.Millisecond},
		"an issuer that does not answer": {setting{roles: cart, keys: hangs}, "T", 503, 400 * time.Millisecond},
		"a role that is refused":         {setting{roles: cart, credentials: newCredentials(never(gate.ErrRefused))}, "T", 403, 0},
		"a pod without a role":           {setting{credentials: newCredentials(never(gate.ErrNotReady))}, "T", 404, 0},
		"a bad token":                    {setting{roles: cart, credentials: newCredentials(never(gate.ErrNotReady))}, "T.changed", 400, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if c.setting.credentials != nil { // its channel is of this bubble
					c.setting.credentials = c.setting.credentials.Again()
				}
				cl := client(serve(t, c.setting))
				begin := time.Now()
				a := get(t, cl, specimens()[c.token])
				if took := time.Since(begin); a.Status != c.status || took != c.took {
					t.Errorf("status %d after %v, want %d after %v", a.Status, took, c.status, c.took)
				}
			})
		})
	}
}

// Keys and credential share one hold.
func TestHoldIsOne(t *testing.T) {
	specimens()
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context) (jose.JSONWebKeySet, error) {
			wait := time.NewTimer(300 * time.Millisecond)
			defer wait.Stop()
			select {
			case <-wait.C:
				return published("rsa"), nil
			case <-ctx.Done():
				return jose.JSONWebKeySet{}, ctx.Err()
			}
		}
		c := client(serve(t, setting{roles: cart, keys: slow, credentials: newCredentials(never(gate.ErrNotReady))}))
		begin := time.Now()
		a := get(t, c, specimens()["T"])
		if took := time.Since(begin); a.Status != 503 || took != 400*time.Millisecond {
			t.Errorf("status %d after %v, want 503 after 400ms", a.Status, took)
		}
	})
}

func TestRecoveryDuringTheHold(t *testing.T) {
	specimens()
	synctest.Test(t, func(t *testing.T) {
		creds := newCredentials(never(gate.ErrNotReady))
		c := client(serve(t, setting{roles: cart, credentials: creds}))
		begin := time.Now()
		time.AfterFunc(250*time.Millisecond, func() { creds.Publish(always(example(time.Now(), time.Hour))) })
		a := get(t, c, specimens()["T"])
		if took := time.Since(begin); a.Status != 200 || took != 250*time.Millisecond {
			t.Errorf("status %d after %v, want 200 after 250ms", a.Status, took)
		}
	})
}

// Whatever zone and fraction the upstream answered in.
func TestTimesAreUTCInWholeSeconds(t *testing.T) {
	specimens()
	synctest.Test(t, func(t *testing.T) {
		berlin := time.FixedZone("CET", 3600)
		c := example(time.Date(2026, 1, 2, 4, 4, 5, 678_900_000, berlin), 6*time.Hour)
		a := get(t, client(serve(t, setting{roles: cart, credentials: newCredentials(always(c))})), specimens()["T"])
		if want := `"Expiration":"2026-01-02T09:04:05Z"}`; !strings.HasSuffix(string(a.Body), want) {
			t.Errorf("the document is %s, want its end to be %s", a.Body, want)
		}
	})
}

// The pod is part of the caller, and each decision leaves one record. A token
// that does not hold decides nothing: it is told apart.
func TestWhatIsRecorded(t *testing.T) {
	specimens()
	for _, c := range []struct{ token, recorded, rejected string }{
		{"T", "eks [shop/cart] app-role " + example(issued, 1).ID() + " <nil>", ""},
		{"T.nobody", "eks [shop/nobody]   " + gate.ErrDenied.Error(), ""},
		{"T.changed", "", "the service account token is not accepted: its signature is not the issuer's"},
		{"T.expired", "", "the service account token does not hold now: token is expired"},
		{"T.none", "", "the service account token cannot be parsed: it is no JWT"},
		{"", "", "there is no service account token: see"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var recorded, rejected []string
			cl := client(serve(t, setting{
				roles: cart,
				record: func(e gate.Event) error {
					recorded = append(recorded, fmt.Sprintf("%s %v %s %s %v", e.Endpoint, e.Caller.Groups, e.Role, e.Credential, e.Err))
					return nil
				},
				rejected: func(who caller.Caller, err error) {
					if who.Listener != "pods" || len(who.Groups) != 0 {
						t.Errorf("told of %+v", who)
					}
					rejected = append(rejected, err.Error())
				},
			}))
			get(t, cl, specimens()[c.token])
			synctest.Wait()
			if !slices.Equal(recorded, words(c.recorded)) {
				t.Errorf("%s: recorded %q, want %q", c.token, recorded, c.recorded)
			}
			if len(rejected) != len(words(c.rejected)) || len(rejected) > 0 && !strings.HasPrefix(rejected[0], c.rejected) {
				t.Errorf("%s: told %q, want %q", c.token, rejected, c.rejected)
			}
		})
	}
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// Two answers of the same kind have ids of their own.
func TestRequestIDsDiffer(t *testing.T) {
	specimens()
	synctest.Test(t, func(t *testing.T) {
		c := client(serve(t, setting{}))
		a, b := get(t, c, specimens()["T"]), get(t, c, specimens()["T"])
		if len(a.Body) < 38 || string(a.Body[:38]) == string(b.Body[:38]) || string(a.Body[38:]) != string(b.Body[38:]) {
			t.Errorf("two answers are %q and %q", a.Body, b.Body)
		}
	})
}
