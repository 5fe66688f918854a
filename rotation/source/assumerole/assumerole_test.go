package assumerole_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/assumerole"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
	"github.com/hostrole/hostrole/rotation/source/static"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

const (
	user   = "arn:aws:iam::111122223333:user/host"
	role   = "arn:aws:iam::111122223333:role/app"
	canary = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

func now() time.Time { return time.Now().Round(0).UTC() }

func value(text string) static.Value {
	return func() (credential.Secret, error) { return credential.NewSecret(text), nil }
}

// faults are what devsts does for each behaviour.
var faults = map[sourcetest.Behaviour]string{
	sourcetest.Refuses: "access-denied", sourcetest.Garbage: "html", sourcetest.Blank: "empty-secret-access-key",
	sourcetest.Expired: "expired-already", sourcetest.Silent: "slow", sourcetest.Huge: "huge", sourcetest.Down: "down",
}

func TestContract(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject{New: func(t *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		server := devsts.New(devsts.Options{Account: "111122223333", Region: "eu-central-1", Now: now,
			Users: []devsts.User{{ARN: user, AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: canary}},
			Roles: []devsts.Role{{ARN: role, Principals: []string{user}}}})
		srv := httptest.NewServer(server)
		t.Cleanup(srv.Close)
		if name := faults[b]; name != "" {
			server.Break(devsts.Named(name))
		}
		boot := func() time.Duration { return time.Hour }
		return assumerole.Source{
			Base:    static.Source{AccessKeyID: value("AKIAIOSFODNN7EXAMPLE"), SecretKey: value(canary), Now: now, Boot: boot},
			STS:     sts.New(sts.Options{Region: "eu-central-1", Endpoint: srv.URL, Now: now, Boot: boot, HTTP: upstream.New(upstream.Options{Timeout: 5 * time.Second, Transient: sts.Transient})}),
			Session: sts.Session{RoleARN: role, Name: "host", Duration: time.Hour},
		}, []string{canary}
	}})
}

func TestABaseThatFailsIsNamed(t *testing.T) {
	s := assumerole.Source{Base: static.Source{AccessKeyID: func() (credential.Secret, error) { return credential.Secret{}, errors.New("no such file") }, Now: now, Boot: func() time.Duration { return 1 }}}
	if _, err := s.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "base credential: access_key_id: no such file") {
		t.Errorf("got %v", err)
	}
}
