// Package sourcetest is the conformance suite of [source.Source]: what every
// kind must do with an upstream that works, refuses, lies, or never answers.
//
// # Why not
//
// Not a mock of each upstream: a kind's own test brings an upstream that
// behaves as it is told, as real as can be had, and the suite judges the
// source by its contract alone.
package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// A Behaviour is what the upstream does.
type Behaviour string

// The behaviours that the suite asks for.
const (
	Works   Behaviour = "works"
	Refuses Behaviour = "refuses"     // says a definite no
	Garbage Behaviour = "garbage"     // answers what cannot be parsed
	Blank   Behaviour = "blank field" // answers well but for one empty field
	Expired Behaviour = "expired"     // answers with what has expired
	Silent  Behaviour = "silent"      // takes the request and never answers
	Huge    Behaviour = "huge"        // answers without end
	Down    Behaviour = "down"        // is not there
)

// A Subject is one kind of source under test.
type Subject struct {
	// New returns a source whose upstream behaves as told, and whatever
	// stands for its secrets, none of which may show in an error. A nil
	// source means that the kind cannot meet the behaviour.
	New func(t *testing.T, b Behaviour) (s source.Source, secrets []string)
	Now func() time.Time
}

// Run holds a kind of source against its contract.
func Run(t *testing.T, subject Subject) {
	t.Run(string(Works), func(t *testing.T) {
		s, _ := subject.New(t, Works)
		first := fetch(t, s)
		check(t, first)
		if second := fetch(t, s); first.AccessKeyID == second.AccessKeyID && !first.Expires.IsZero() {
			t.Errorf("two calls gave the same credential: the source answers from memory")
		}
	})
	t.Run("concurrent", func(t *testing.T) {
		s, _ := subject.New(t, Works)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if c, err := s.Fetch(t.Context()); err != nil {
					t.Error(err)
				} else {
					check(t, c)
				}
			})
		}
		all.Wait()
	})
	for _, b := range []Behaviour{Refuses, Garbage, Blank, Expired, Huge, Down} {
		t.Run(string(b), func(t *testing.T) {
			s, secrets := subject.New(t, b)
			if s == nil {
				t.Skipf("this kind of source cannot meet an upstream that is %q", b)
			}
			c, err := s.Fetch(t.Context())
			if err == nil {
				t.Fatalf("no error; got a credential %v that expires %v", c.ID(), c.Expires)
			}
			if c.Complete() {
				t.Error("a credential came with the error")
			}
			if got := errors.Is(err, source.ErrRefused); got != (b == Refuses) {
				t.Errorf("errors.Is(err, ErrRefused) = %v: %v", got, err)
			}
			silent(t, err, secrets)
		})
	}
	t.Run(string(Silent), func(t *testing.T) {
		s, secrets := subject.New(t, Silent)
		if s == nil {
			t.Skip("this kind of source has no upstream that could be silent")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		done := make(chan error, 1)
		go func() { _, err := s.Fetch(ctx); done <- err }()
		select {
		case err := <-done:
			if err == nil {
				t.Fatal("no error")
			}
			silent(t, err, secrets)
		case <-time.After(10 * time.Second):
			t.Fatal("Fetch did not return 10s after its context had ended")
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		s, _ := subject.New(t, Works)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Fetch(ctx); err == nil {
			t.Error("no error with a context that had ended")
		}
	})
}

func fetch(t *testing.T, s source.Source) credential.Credential {
	t.Helper()
	c, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func check(t *testing.T, c credential.Credential) {
	t.Helper()
	if err := credential.Check(c); err != nil {
		t.Errorf("incomplete: %v", err)
	}
	if c.Received == 0 {
		t.Error("Received is not set")
	}
	if c.Issued.Location() != time.UTC || !c.Expires.IsZero() && c.Expires.Location() != time.UTC {
		t.Errorf("times are not in UTC: issued %v, expires %v", c.Issued, c.Expires)
	}
}

// silent fails when a secret shows in the error, however it is printed.
func silent(t *testing.T, err error, secrets []string) {
	t.Helper()
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		for _, s := range secrets {
			if s != "" && strings.Contains(text, s) {
				t.Errorf("the error shows a secret: %s", strings.ReplaceAll(text, s, "<SECRET>"))
			}
		}
	}
}
