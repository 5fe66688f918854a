package devsts_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/hostrole/hostrole/agent/devsts"
)

// seen is what a client makes of an answer.
type seen struct {
	out    *sts.AssumeRoleOutput
	err    error
	status int    // 0 when there was no answer
	code   string // of an API error
	retry  string // Retry-After
	asked  time.Time
}

func see(t *testing.T, r *rig, most int64) seen {
	t.Helper()
	s := seen{asked: time.Now()}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c := sts.New(sts.Options{
		Region: region, BaseEndpoint: aws.String(r.url), Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, nil
		}),
		HTTPClient: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: transport(func(req *http.Request) (*http.Response, error) {
				resp, err := tr.RoundTrip(req)
				if err == nil {
					s.status, s.retry = resp.StatusCode, resp.Header.Get("Retry-After")
					resp.Body = struct {
						io.Reader
						io.Closer
					}{io.LimitReader(resp.Body, most), resp.Body}
				}
				return resp, err
			}),
		},
	})
	s.out, s.err = c.AssumeRole(t.Context(), assume(hub, "one"))
	var api smithy.APIError
	if errors.As(s.err, &api) {
		s.code = api.ErrorCode()
	}
	return s
}

// TestEachFaultDoesWhatItSays holds every fault against a check of its own, so
// that a new fault without one fails.
func TestEachFaultDoesWhatItSays(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, s seen) {
		var resp *awshttp.ResponseError
		if s.err == nil || !errors.As(s.err, &resp) || resp.ServiceRequestID() == "" {
			t.Errorf("got %v, want a refusal with a request id", s.err)
		}
	}
	retry := func(t *testing.T, s seen) {
		if refused(t, s); s.retry != "1" {
			t.Errorf("Retry-After %q", s.retry)
		}
	}
	plainPage := func(t *testing.T, s seen) {
		var api smithy.APIError
		if !errors.As(s.err, &api) || api.ErrorCode() != "UnknownError" {
			t.Errorf("got %v, want an UnknownError", s.err)
		}
	}
	undecodable := func(t *testing.T, s seen) {
		if s.err == nil || s.code != "" {
			t.Errorf("got %v, want an answer that cannot be decoded", s.err)
		}
	}
	credentialless := func(t *testing.T, s seen) {
		if s.err == nil && s.out.Credentials != nil {
			t.Errorf("got credentials of %s", *s.out.Credentials.AccessKeyId)
		}
	}
	life := func(least, most time.Duration) func(*testing.T, seen) {
		return func(t *testing.T, s seen) {
			if got := s.out.Credentials.Expiration.Sub(s.asked); got < least || got > most {
				t.Errorf("life %v, want %v to %v", got, least, most)
			}
		}
	}
	usable := func(t *testing.T, s seen) {
		if s.err != nil || s.out.Credentials == nil || *s.out.Credentials.AccessKeyId == "" {
			t.Errorf("got %v, want credentials", s.err)
		}
	}
	empty := func(field func(*sts.AssumeRoleOutput) *string) func(*testing.T, seen) {
		return func(t *testing.T, s seen) {
			if v := field(s.out); v == nil || *v != "" {
				t.Errorf("got %v, want an empty field", v)
			}
		}
	}
	checks := map[string]func(*testing.T, seen){
		"down": func(t *testing.T, s seen) {
			if !errors.Is(s.err, io.EOF) {
				t.Errorf("got %v, want an end without an answer", s.err)
			}
		},
		"slow": usable, "drip": usable,
		"clock-ahead": refused, "clock-behind": refused,
		"throttling": refused, "too-many-requests": refused, "idp-communication-error": refused,
		"access-denied": refused, "expired-token": refused, "expired-identity-token": refused, "invalid-identity-token": refused,
		"signature-does-not-match": refused, "region-disabled": refused,
		"redirect-302": plainPage, "redirect-307": plainPage,
		"http-500": refused, "http-502": plainPage, "http-503": refused,
		"http-500-retry-after": retry, "http-503-retry-after": retry,
		"http-502-retry-after": func(t *testing.T, s seen) {
			if plainPage(t, s); s.retry != "1" {
				t.Errorf("Retry-After %q", s.retry)
			}
		},
		"short-body": func(t *testing.T, s seen) {
			if !errors.Is(s.err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v, want an unexpected end", s.err)
			}
		},
		"html": credentialless, "binary": undecodable, "empty-body": credentialless, "truncated-xml": undecodable,
		"duplicate-field": func(t *testing.T, s seen) {
			if usable(t, s); s.err == nil && !strings.HasPrefix(*s.out.Credentials.AccessKeyId, "ASIA") {
				t.Error("no key")
			}
		},
		"no-credentials": func(t *testing.T, s seen) {
			if s.err != nil || s.out.Credentials != nil || s.out.AssumedRoleUser == nil {
				t.Errorf("got %+v, %v", s.out, s.err)
			}
		},
		"empty-access-key-id":     empty(func(o *sts.AssumeRoleOutput) *string { return o.Credentials.AccessKeyId }),
		"empty-secret-access-key": empty(func(o *sts.AssumeRoleOutput) *string { return o.Credentials.SecretAccessKey }),
		"empty-session-token":     empty(func(o *sts.AssumeRoleOutput) *string { return o.Credentials.SessionToken }),
		"empty-expiration":        undecodable,
		"expired-already":         life(-time.Hour-5*time.Second, -time.Hour+5*time.Second),
		"expires-at-once":         life(time.Second, 8*time.Second),
		"shorter-than-asked":      life(29*time.Minute, 31*time.Minute),
		"huge": func(t *testing.T, s seen) {
			if n := len(*s.out.Credentials.SessionToken); n != 10_000_000 {
				t.Errorf("token of %d bytes", n)
			}
		},
		"endless": undecodable,
		"wrong-role": func(t *testing.T, s seen) {
			if *s.out.AssumedRoleUser.Arn != "arn:aws:sts::999999999999:assumed-role/someone-else/session" {
				t.Errorf("got %s", *s.out.AssumedRoleUser.Arn)
			}
		},
		"no-assumed-role-user": func(t *testing.T, s seen) {
			if usable(t, s); s.err == nil && s.out.AssumedRoleUser != nil {
				t.Error("it is there")
			}
		},
	}
	kinds := map[devsts.Kind]int{}
	for _, f := range devsts.AllFaults() {
		kinds[f.Kind]++
		check := checks[f.Name]
		delete(checks, f.Name)
		if check == nil {
			t.Errorf("no check of %s, or it is there twice", f.Name)
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			f.Calls = 1
			f.Delay = min(f.Delay, time.Millisecond)
			r.Break(f)
			most := int64(100_000) // endless ends here
			if f.Name == "huge" {
				most = 12_000_000
			}
			s := see(t, r, most)
			if s.status != f.Status || f.Code != "" && s.code != f.Code {
				t.Errorf("got %d %s, want %d %s", s.status, s.code, f.Status, f.Code)
			}
			check(t, s)
			if call := r.Calls()[0]; call.Fault != f.Name || call.Status != f.Status || call.Code != f.Code {
				t.Errorf("call %+v", call)
			}
			if n := r.CallCount(""); n != 1 {
				t.Errorf("%d calls, want 1: nobody follows a redirect", n)
			}
			if s := see(t, r, most); s.err != nil {
				t.Errorf("the call after: %v", s.err)
			}
		})
	}
	for name := range checks {
		t.Errorf("no fault %s", name)
	}
	if len(kinds) != 4 {
		t.Errorf("kinds %v", kinds)
	}
}

func TestFaultsMatchAndEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := devsts.Named("throttling")
	f.Role, f.Calls = hub, 2
	r.Break(f)
	g := devsts.Named("http-503")
	g.Action = "GetCallerIdentity"
	r.Break(g)
	down := devsts.Named("access-denied")
	down.Role, down.Calls = hub, 1
	r.Break(down)

	ask := func(role string) error {
		_, err := r.alice(t).AssumeRole(t.Context(), assume(role, "one"))
		return err
	}
	if err := ask(plain); err != nil {
		t.Errorf("another role: %v", err)
	}
	wantRefusal(t, ask(hub), 400, "Throttling", "Rate exceeded")
	wantRefusal(t, ask(hub), 400, "Throttling", "Rate exceeded")
	wantRefusal(t, ask(hub), 403, "AccessDenied", "")
	if err := ask(hub); err != nil {
		t.Errorf("after all of them: %v", err)
	}
	for range 3 {
		_, err := r.alice(t).GetCallerIdentity(t.Context(), nil)
		wantRefusal(t, err, 503, "ServiceUnavailable", "")
	}
	r.Heal()
	if _, err := r.alice(t).GetCallerIdentity(t.Context(), nil); err != nil {
		t.Errorf("healed: %v", err)
	}
}

func TestSpoilingFaultStillJudges(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Break(devsts.Named("no-credentials"))
	_, err := r.client(t, keyID, "wrong", "", nil).AssumeRole(t.Context(), assume(hub, "one"))
	wantRefusal(t, err, 403, "SignatureDoesNotMatch", "")
}

// TestSlowAndDripTakeTheirTime measures in a bubble, on a recorder.
func TestSlowAndDripTakeTheirTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := devsts.New(devsts.Options{Account: account, Region: region, Now: time.Now, Users: []devsts.User{{ARN: userARN, AccessKeyID: keyID, SecretAccessKey: secret}}})
		for name, least := range map[string]time.Duration{"slow": 30 * time.Second, "drip": 20 * time.Second} {
			s.Heal()
			s.Break(devsts.Named(name))
			start := time.Now()
			resp := raw(s, "POST", "/", whoami(), signer{}.sign)
			wantAnswer(t, resp, 200, "", userARN)
			if took := time.Since(start); took < least || took > 2*time.Minute {
				t.Errorf("%s took %v", name, took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start = time.Now()
			raw(s, "POST", "/", whoami(), func(r *http.Request) {
				signer{}.sign(r)
				*r = *r.WithContext(ctx)
			})
			cancel()
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("%s went on for %v after its client had gone", name, took)
			}
		}
	})
}

func TestEndlessEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := devsts.Named("endless")
	f.Delay = 0
	r.Break(f)
	n := counter{httptest.NewRecorder(), 0}
	req := httptest.NewRequest("POST", "/", strings.NewReader(with()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	signer{}.sign(req)
	r.ServeHTTP(&n, req)
	if n.bytes < 64<<20 || n.bytes > 65<<20 {
		t.Errorf("%d bytes", n.bytes)
	}
}

// counter counts what it is told to send, and keeps none of it.
type counter struct {
	*httptest.ResponseRecorder
	bytes int
}

func (c *counter) Write(b []byte) (int, error) { c.bytes += len(b); return len(b), nil }

func TestDownOverHTTP2(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Break(devsts.Named("down"))
	srv := httptest.NewUnstartedServer(r)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	resp, err := srv.Client().Post(srv.URL, "application/x-www-form-urlencoded", strings.NewReader(whoami()))
	if err == nil {
		resp.Body.Close()
		t.Errorf("got %s", resp.Status)
	}
}

func TestNamedPanicsOnAnUnknownName(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("it did not")
		}
	}()
	devsts.Named("nothing")
}
