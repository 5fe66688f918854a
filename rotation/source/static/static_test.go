package static_test

import (
	"errors"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
	"github.com/hostrole/hostrole/rotation/source/static"
)

const canary = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

func value(text string) static.Value {
	return func() (credential.Secret, error) { return credential.NewSecret(text), nil }
}

func keys(id, secret static.Value) static.Source {
	return static.Source{AccessKeyID: id, SecretKey: secret, Now: func() time.Time { return time.Now().UTC() }, Boot: func() time.Duration { return time.Hour }}
}

func TestContract(t *testing.T) {
	gone := func() (credential.Secret, error) { return credential.Secret{}, errors.New("open key: no such file") }
	sourcetest.Run(t, sourcetest.Subject{New: func(_ *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		secrets := []string{canary}
		switch b {
		case sourcetest.Works:
			return keys(value("AKIAIOSFODNN7EXAMPLE"), value(canary)), secrets
		case sourcetest.Garbage:
			return keys(value("AKIAIOSFODNN7EXAMPLE"), value(canary+"\x00\n")), secrets
		case sourcetest.Blank:
			return keys(value("AKIAIOSFODNN7EXAMPLE"), value("")), secrets
		case sourcetest.Down:
			return keys(value("AKIAIOSFODNN7EXAMPLE"), gone), secrets
		}
		return nil, nil // keys in a file refuse nothing and never expire
	}})
}

func TestReferencesAreFollowedAtEachUse(t *testing.T) {
	n := 0
	s := keys(value("AKIAIOSFODNN7EXAMPLE"), func() (credential.Secret, error) { n++; return credential.NewSecret(canary), nil })
	s.SessionToken = value("session")
	for range 2 {
		c, err := s.Fetch(t.Context())
		if err != nil || c.Token.Reveal() != "session" {
			t.Fatal(err)
		}
	}
	if n != 2 {
		t.Errorf("the reference was followed %d times in two fetches", n)
	}
}
