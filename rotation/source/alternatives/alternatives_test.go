package alternatives_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/alternatives"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
)

func now() time.Time { return time.Now().Round(0).UTC() }

// works gives a new credential each time.
func works() source.Source {
	var n atomic.Int64
	return source.Func(func(ctx context.Context) (credential.Credential, error) {
		at := now()
		return credential.Credential{
			AccessKeyID: "ASIAIOSFODNN7EXAMPL" + string(rune('A'+n.Add(1)%26)), SecretKey: credential.NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
			Token: credential.NewSecret("token"), Issued: at, Expires: at.Add(time.Hour), Received: time.Hour,
		}, ctx.Err()
	})
}

func fails(err error) source.Source {
	return source.Func(func(context.Context) (credential.Credential, error) { return credential.Credential{}, err })
}

// hangs until its context ends.
func hangs() source.Source {
	return source.Func(func(ctx context.Context) (credential.Credential, error) {
		<-ctx.Done()
		return credential.Credential{}, ctx.Err()
	})
}

func try(sources ...source.Source) *alternatives.Source {
	s := &alternatives.Source{}
	for i, src := range sources {
		s.Alternatives = append(s.Alternatives, alternatives.Alternative{Name: "source." + string(rune('a'+i)), Source: src, Timeout: 10 * time.Second})
	}
	return s
}

var (
	errDown = errors.New("connection refused")
	refused = &source.Error{Op: "AssumeRole", Code: "InvalidIdentityToken", Kind: source.ErrRefused}
	denied  = &source.Error{Op: "AssumeRole", Code: "AccessDenied", Kind: source.ErrAccessDenied}
)

func TestContract(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject{Now: now, New: func(_ *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		switch b {
		case sourcetest.Works:
			return try(fails(refused), fails(errDown), works()), nil
		case sourcetest.Refuses:
			return try(fails(refused), fails(denied)), nil
		case sourcetest.Silent:
			return try(fails(refused), hangs(), works()), nil
		case sourcetest.Down:
			return try(fails(refused), fails(errDown)), nil
		}
		return nil, nil // what an upstream answers is looked at by the source that asked
	}})
}

func TestOrder(t *testing.T) {
	var asked []string
	note := func(name string, s source.Source) source.Source {
		return source.Func(func(ctx context.Context) (credential.Credential, error) {
			asked = append(asked, name)
			return s.Fetch(ctx)
		})
	}
	s := try(note("a", fails(errDown)), note("b", works()), note("c", works()))
	var told []string
	s.Failed = func(name string, err error) { told = append(told, name+": "+err.Error()) }
	for range 2 {
		if _, err := s.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(asked, []string{"a", "b", "a", "b"}) || s.Last() != 1 {
		t.Errorf("asked %v, and the last was %d", asked, s.Last())
	}
	if !slices.Equal(told, []string{"source.a: connection refused", "source.a: connection refused"}) {
		t.Errorf("was told %q", told)
	}
	s.Alternatives[0].Source = works()
	if _, err := s.Fetch(t.Context()); err != nil || s.Last() != 0 {
		t.Errorf("the first one works again, and the last was %d: %v", s.Last(), err)
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		sources         []source.Source
		refused, denied bool
	}{
		"one is down":           {[]source.Source{fails(refused), fails(errDown)}, false, false},
		"the first is down":     {[]source.Source{fails(errDown), fails(denied)}, false, false},
		"all refuse":            {[]source.Source{fails(refused), fails(denied)}, true, false},
		"all are without right": {[]source.Source{fails(denied), fails(denied)}, true, true},
	} {
		_, err := try(c.sources...).Fetch(t.Context())
		if got := errors.Is(err, source.ErrRefused); got != c.refused {
			t.Errorf("%s: refused is %v: %v", name, got, err)
		}
		if got := errors.Is(err, source.ErrAccessDenied); got != c.denied {
			t.Errorf("%s: denied is %v: %v", name, got, err)
		}
		if !strings.Contains(err.Error(), "source.a: ") || !strings.Contains(err.Error(), "; then source.b: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q", name, err)
		}
	}
}

func TestOneThatHangsLeavesTimeForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if _, err := try(hangs(), works()).Fetch(t.Context()); err != nil || time.Since(began) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		_, err := try(fails(refused), hangs(), works()).Fetch(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second || !strings.Contains(err.Error(), "source.a") || strings.Contains(err.Error(), "\n") || errors.Is(err, source.ErrRefused) {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}
