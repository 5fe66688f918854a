package ecs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/ecs"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/imdstest"
	"github.com/hostrole/hostrole/rotation/credential"
)

const appPath = "/v2/credentials/app-role"

// Row 101: from the request to the answer.
func TestHold(t *testing.T) {
	for name, path := range map[string]string{"version 1": "/v1/credentials?id=app-role", "version 2": appPath, "for people": "/role/app-role"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := client(serve(t, setting{roles: []string{"app"}, credentials: newCredentials(never(gate.ErrNotReady))}))
				begin := time.Now()
				a := get(t, c, path)
				if took := time.Since(begin); a.Status != 503 || took != 400*time.Millisecond {
					t.Errorf("status %d after %v, want 503 after 400ms", a.Status, took)
				}
			})
		})
	}
	t.Run("only a role that may have one soon", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := client(serve(t, setting{roles: []string{"app"}, credentials: newCredentials(never(gate.ErrRefused))}))
			begin := time.Now()
			for _, path := range []string{appPath, "/v2/credentials/other", "/v2/credentials/", "/"} {
				get(t, c, path)
			}
			if took := time.Since(begin); took != 0 {
				t.Errorf("a refusal, an unknown role, no role and no path took %v", took)
			}
		})
	})
}

func TestRecoveryDuringTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		creds := newCredentials(never(gate.ErrNotReady))
		c := client(serve(t, setting{roles: []string{"app"}, credentials: creds}))
		begin := time.Now()
		time.AfterFunc(250*time.Millisecond, func() { creds.Publish(always(example(time.Now(), time.Hour))) })
		a := get(t, c, appPath)
		if took := time.Since(begin); a.Status != 200 || took != 250*time.Millisecond {
			t.Errorf("status %d after %v, want 200 after 250ms", a.Status, took)
		}
	})
}

// SDKs parse only UTC in whole seconds, whatever zone and fraction the upstream
// answered in.
func TestTimesAreUTCInWholeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		berlin := time.FixedZone("CET", 3600)
		c := example(time.Date(2026, 1, 2, 4, 4, 5, 678_900_000, berlin), 6*time.Hour)
		a := get(t, client(serve(t, setting{roles: []string{"app"}, credentials: newCredentials(always(c))})), appPath)
		if want := `"Expiration":"2026-01-02T09:04:05Z"}`; !strings.HasSuffix(string(a.Body), want) {
			t.Errorf("the document is %s, want its end to be %s", a.Body, want)
		}
	})
}

// What an upstream says of a role may need escaping.
func TestRoleIsEscaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := example(issued, time.Hour)
		c.RoleARN = "a\"b\n"
		a := get(t, client(serve(t, setting{roles: []string{"app"}, credentials: newCredentials(always(c))})), appPath)
		if want := `{"RoleArn":"a\"b\n","AccessKeyId":`; !strings.HasPrefix(string(a.Body), want) {
			t.Errorf("the document is %s, want it to begin %s", a.Body, want)
		}
	})
}

// Each decision leaves one record, and a request that asks for no role none.
func TestWhatIsRecorded(t *testing.T) {
	for _, c := range []struct {
		roles []string
		path  string
		want  []string
	}{
		{[]string{"app"}, appPath, []string{"ecs app-role " + example(issued, 1).ID() + " <nil>"}},
		{[]string{"app"}, "/v1/credentials?id=app-role", []string{"ecs app-role " + example(issued, 1).ID() + " <nil>"}},
		{[]string{"app"}, "/role/other", []string{"ecs other  " + gate.ErrDenied.Error()}},
		{nil, "/role/app-role", []string{"ecs app-role  " + gate.ErrDenied.Error()}},
		{[]string{"app"}, "/role/", nil},
		{[]string{"app"}, "/role/%00", nil},
		{[]string{"app"}, "/", nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			var got []string
			record := func(e gate.Event) error {
				got = append(got, fmt.Sprintf("%s %s %s %v", e.Endpoint, e.Role, e.Credential, e.Err))
				return nil
			}
			get(t, client(serve(t, setting{roles: c.roles, record: record})), c.path)
			synctest.Wait()
			if !slices.Equal(got, c.want) {
				t.Errorf("roles %v, %s: recorded %q, want %q", c.roles, c.path, got, c.want)
			}
		})
	}
}

// Who has not the token of a listener is told to somebody, without the token
// that it showed.
func TestRejected(t *testing.T) {
	for name, c := range map[string]struct {
		header []imdstest.Field
		want   string
	}{
		"no token":    {nil, "uid 1000 (app) on containers: the request has no Authorization header"},
		"wrong token": {[]imdstest.Field{{Name: "Authorization", Value: "canary"}}, "uid 1000 (app) on containers: the Authorization header is not the one"},
		"right token": {[]imdstest.Field{{Name: "Authorization", Value: fullURIToken}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := ""
				rejected := func(who caller.Caller, err error) { got += fmt.Sprintf("%v: %v", who, err) }
				get(t, client(serve(t, setting{address: loopback, token: fullURIToken, roles: []string{"app"}, rejected: rejected})), appPath, c.header...)
				synctest.Wait()
				if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) || strings.Contains(got, "canary") {
					t.Errorf("told %q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestTokensThatNobodyCanSend(t *testing.T) {
	t.Parallel()
	for token, ok := range map[string]bool{
		"": true, "x": true, "Basic canary=": true, "canary\n": false, " canary": false, "canary\t": false, "canary\rx": false, "canarié": false, "canary\x00": false,
	} {
		_, err := ecs.New(ecs.Options{Authorization: credential.NewSecret(token)})
		if (err == nil) != ok {
			t.Errorf("%q: error %v, want one: %v", token, err, !ok)
		}
		if err != nil && strings.Contains(err.Error(), "canar") {
			t.Errorf("the error shows the token: %v", err)
		}
	}
}
