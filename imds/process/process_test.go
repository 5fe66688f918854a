package process_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/process"
	"github.com/hostrole/hostrole/rotation/credential"
)

var (
	issued = time.Date(2026, 1, 2, 4, 4, 5, 678_900_000, time.FixedZone("CET", 3600))
	who    = caller.Caller{Listener: "admin", UID: caller.NewID(1000), User: "app"}
)

func now() time.Time { return time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC) }

// example is AWS's own example of a credential.
func example() credential.Credential {
	return credential.Credential{
		AccessKeyID: "AKIAIOSFODNN7EXAMPLE",
		SecretKey:   credential.NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
		Token:       credential.NewSecret("FwoGZXIvYXdzEXAMPLETOKEN=="),
		AccountID:   "111122223333",
		Issued:      issued, Expires: issued.Add(6 * time.Hour),
	}
}

// A store answers for every key.
type store func(context.Context) (credential.Credential, error)

func (s store) Credential(ctx context.Context, _ credential.Key) (credential.Credential, error) {
	return s(ctx)
}

func newGate(s store, records *[]string, roles ...string) *gate.Gate {
	return gate.New(gate.Options{
		Policy:      func(caller.Caller) gate.Verdict { return gate.Verdict{Rule: "test", Roles: roles} },
		Roles:       []gate.Role{{ID: "app", Name: "app-role"}, {ID: "second", Name: "second-role"}, {ID: "other", Name: "other"}},
		Keys:        func(role string, _ caller.Caller) (credential.Key, error) { return credential.NewKey(role), nil },
		Credentials: s,
		Record: func(e gate.Event) error {
			*records = append(*records, fmt.Sprintf("%s %s %s %v", e.Endpoint, e.Role, e.Credential, e.Err))
			return nil
		},
	})
}

func has(c credential.Credential) store {
	return func(context.Context) (credential.Credential, error) { return c, nil }
}

func TestDocument(t *testing.T) {
	t.Parallel()
	longTerm := example()
	longTerm.Token, longTerm.Expires, longTerm.AccountID = credential.Secret{}, time.Time{}, ""
	const keys = `{"Version":1,"AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",`
	for name, c := range map[string]struct {
		credential credential.Credential
		role, want string
		record     string
	}{
		"the caller's own role": {example(), "", keys + `"SessionToken":"FwoGZXIvYXdzEXAMPLETOKEN==","Expiration":"2026-01-02T09:04:05Z","AccountId":"111122223333"}`, "process app-role " + example().ID() + " <nil>"},
		"a role by its name":    {example(), "second-role", keys + `"SessionToken":"FwoGZXIvYXdzEXAMPLETOKEN==","Expiration":"2026-01-02T09:04:05Z","AccountId":"111122223333"}`, "process second-role " + example().ID() + " <nil>"},
		"long-term keys":        {longTerm, "", keys + `"Expiration":"2026-01-02T09:05:00Z"}`, "process app-role " + example().ID() + " <nil>"},
	} {
		var records []string
		got, err := process.Document(t.Context(), newGate(has(c.credential), &records, "app", "second"), now, who, c.role)
		if string(got) != c.want || err != nil {
			t.Errorf("%s: got\n%s and %v, want\n%s", name, got, err, c.want)
		}
		if !slices.Equal(records, []string{c.record}) {
			t.Errorf("%s: recorded %q, want %q", name, records, c.record)
		}
	}
}

// A refusal has no document, and leaves a record.
func TestRefusals(t *testing.T) {
	t.Parallel()
	fails := func(err error) store {
		return func(context.Context) (credential.Credential, error) { return credential.Credential{}, err }
	}
	for name, c := range map[string]struct {
		store store
		roles []string
		role  string
		want  error
		text  string
	}{
		"no role":                  {has(example()), nil, "", gate.ErrDenied, "reading credentials of the caller's own role: " + gate.ErrDenied.Error()},
		"another caller's role":    {has(example()), []string{"app"}, "other", gate.ErrDenied, `reading credentials of the role "other": ` + gate.ErrDenied.Error()},
		"a role that is not there": {has(example()), []string{"app"}, "nobody", gate.ErrDenied, `reading credentials of the role "nobody": ` + gate.ErrDenied.Error()},
		"the upstream refuses":     {fails(gate.ErrUnauthorized), []string{"app"}, "", gate.ErrRefused, `reading credentials of the role "app-role": ` + gate.ErrUnauthorized.Error()},
		"the upstream is away":     {fails(gate.ErrNotReady), []string{"app"}, "", gate.ErrNotReady, `reading credentials of the role "app-role": ` + gate.ErrNotReady.Error()},
	} {
		var records []string
		got, err := process.Document(t.Context(), newGate(c.store, &records, c.roles...), now, who, c.role)
		if got != nil || !errors.Is(err, c.want) || err.Error() != c.text {
			t.Errorf("%s: got %q and %v, want %s", name, got, err, c.text)
		}
		if len(records) != 1 {
			t.Errorf("%s: %d records, want 1", name, len(records))
		}
	}
}

// How long to wait is the caller's to say.
func TestWaitsWithinItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := func(ctx context.Context) (credential.Credential, error) {
			wait := time.NewTimer(10 * time.Second)
			defer wait.Stop()
			select {
			case <-wait.C:
				return example(), nil
			case <-ctx.Done():
				return credential.Credential{}, gate.ErrNotReady
			}
		}
		for limit, want := range map[time.Duration]error{5 * time.Second: gate.ErrNotReady, time.Minute: nil} {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			var records []string
			begin := time.Now()
			_, err := process.Document(ctx, newGate(late, &records, "app"), now, who, "")
			cancel()
			if took := time.Since(begin); !errors.Is(err, want) || (err == nil) != (want == nil) || took != min(limit, 10*time.Second) {
				t.Errorf("with %v: %v after %v, want %v", limit, err, took, want)
			}
		}
	})
}
