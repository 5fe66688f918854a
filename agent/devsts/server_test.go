package devsts_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	"github.com/go-jose/go-jose/v4"

	"github.com/hostrole/hostrole/agent/devsts"
)

const (
	account  = "111122223333"
	region   = "eu-central-1"
	keyID    = "AKIAIOSFODNN7EXAMPLE"
	secret   = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	userARN  = "arn:aws:iam::111122223333:user/alice"
	hub      = "arn:aws:iam::111122223333:role/path/hub"
	spoke    = "arn:aws:iam::444455556666:role/spoke"
	leaf     = "arn:aws:iam::444455556666:role/leaf"
	guarded  = "arn:aws:iam::111122223333:role/guarded"
	plain    = "arn:aws:iam::111122223333:role/plain"
	long     = "arn:aws:iam::111122223333:role/long"
	audience = "sts.amazonaws.com"

	rootSecret = "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"
)

// A rig is a Server behind a real listener, with an issuer that it trusts and
// a clock that can be moved.
type rig struct {
	*devsts.Server
	url    string
	issuer *devsts.Issuer
	shift  atomic.Int64
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.shift.Load())) }

// shared is the issuer of all rigs whose test does not rotate its keys: making
// RSA keys is slow.
var shared = sync.OnceValue(func() *devsts.Issuer { return devsts.NewIssuer("https://idp.example.com/realm", time.Now) })

func newRig(t testing.TB, change ...func(*devsts.Options)) *rig {
	t.Helper()
	r := &rig{}
	r.issuer = shared()
	trust := []devsts.OIDCTrust{{Issuer: "https://idp.example.com/realm", Audiences: []string{audience}, Subject: "host:*"}}
	o := devsts.Options{
		Account: account, Region: region, Now: r.now, Seed: []byte("seed"),
		Users: []devsts.User{
			{ARN: userARN, AccessKeyID: keyID, SecretAccessKey: secret},
			{ARN: "arn:aws:iam::111122223333:root", AccessKeyID: "AKIAI44QH8DHBEXAMPLE", SecretAccessKey: rootSecret},
		},
		Roles: []devsts.Role{
			{ARN: hub, Principals: []string{userARN}, OIDC: trust, TagSession: true, SetSourceIdentity: true, MaxSession: 12 * time.Hour},
			{ARN: spoke, Principals: []string{hub}, TagSession: true, SetSourceIdentity: true, MaxSession: 12 * time.Hour},
			{ARN: leaf, Principals: []string{"arn:aws:iam::444455556666:root"}, TagSession: true, SetSourceIdentity: true},
			{ARN: guarded, Principals: []string{userARN}, ExternalID: "door/7"},
			{ARN: plain, Principals: []string{userARN, hub, "arn:aws:iam::111122223333:root"}, OIDC: trust},
			{ARN: long, Principals: []string{"arn:aws:sts::111122223333:assumed-role/hub/one"}},
		},
		Providers: []devsts.Provider{{Issuer: "https://idp.example.com/realm", Audiences: []string{audience, "other"}, Keys: func() jose.JSONWebKeySet { return r.issuer.Keys() }}},
	}
	for _, f := range change {
		f(&o)
	}
	r.Server = devsts.New(o)
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// client is the SDK's, as our daemon builds it; change spoils what it sends.
func (r *rig) client(t testing.TB, id, secret, token string, change func(*http.Request)) *sts.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return sts.New(sts.Options{
		Region: region, BaseEndpoint: aws.String(r.url), Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token}, nil
		}),
		HTTPClient: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: transport(func(req *http.Request) (*http.Response, error) {
				if change != nil {
					change(req)
				}
				return tr.RoundTrip(req)
			}),
		},
	})
}

func (r *rig) alice(t testing.TB) *sts.Client { return r.client(t, keyID, secret, "", nil) }

func (r *rig) as(t testing.TB, c *types.Credentials) *sts.Client {
	return r.client(t, *c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken, nil)
}

func assume(role, name string, change ...func(*sts.AssumeRoleInput)) *sts.AssumeRoleInput {
	in := &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: &name}
	for _, f := range change {
		f(in)
	}
	return in
}

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantRefusal checks code, status and a part of the message of what the SDK
// made of an answer.
func wantRefusal(t testing.TB, err error, status int, code, message string) {
	t.Helper()
	var api smithy.APIError
	var resp *awshttp.ResponseError
	if !errors.As(err, &api) || !errors.As(err, &resp) {
		t.Fatalf("got %v, want %d %s", err, status, code)
	}
	if api.ErrorCode() != code || resp.HTTPStatusCode() != status || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %d %s %q, want %d %s with %q", resp.HTTPStatusCode(), api.ErrorCode(), api.ErrorMessage(), status, code, message)
	}
	if len(resp.ServiceRequestID()) != 36 {
		t.Errorf("request id %q", resp.ServiceRequestID())
	}
	wantFault := smithy.FaultClient
	if status >= 500 {
		wantFault = smithy.FaultServer
	}
	if f := api.ErrorFault(); f != smithy.FaultUnknown && f != wantFault {
		t.Errorf("got fault %v, want %v", f, wantFault)
	}
}

func TestAssumeRoleIssuesWhatVerifyRecognises(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := time.Now()
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	out, err := r.alice(t).AssumeRole(t.Context(), assume(hub, "one", func(in *sts.AssumeRoleInput) {
		in.DurationSeconds = aws.Int32(7200)
		in.ExternalId = aws.String("not:required/here")
		in.SourceIdentity = aws.String("alice@example.com")
		in.Policy = &policy
		in.PolicyArns = []types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/ReadOnlyAccess")}, {Arn: aws.String("arn:aws:iam::111122223333:policy/x")}}
		in.Tags = []types.Tag{{Key: aws.String("Team"), Value: aws.String("blau ü")}, {Key: aws.String("Cost"), Value: aws.String("")}}
		in.TransitiveTagKeys = []string{"Team"}
	}))
	must(t, out, err)
	c := out.Credentials
	if !regexp.MustCompile(`^ASIA[A-Z2-7]{16}$`).MatchString(*c.AccessKeyId) || len(*c.SecretAccessKey) != 40 {
		t.Errorf("keys %s of %d characters, secret of %d", *c.AccessKeyId, len(*c.AccessKeyId), len(*c.SecretAccessKey))
	}
	if life := c.Expiration.Sub(before); life < 7199*time.Second || life > 7205*time.Second {
		t.Errorf("life %v, want 2h", life)
	}
	const arn = "arn:aws:sts::111122223333:assumed-role/hub/one"
	if u := out.AssumedRoleUser; *u.Arn != arn || !regexp.MustCompile(`^AROA[A-Z2-7]{17}:one$`).MatchString(*u.AssumedRoleId) {
		t.Errorf("assumed role user %s %s", *u.Arn, *u.AssumedRoleId)
	}
	if *out.SourceIdentity != "alice@example.com" || int(*out.SessionTokenSize) != len(*c.SessionToken) || *out.SessionTokenUtilization < 1 {
		t.Errorf("source identity %q, token size %d, utilization %d", *out.SourceIdentity, *out.SessionTokenSize, *out.SessionTokenUtilization)
	}
	got, err := r.Verify(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
	must(t, got, err)
	want := devsts.Session{
		Generation: got.Generation, AccessKeyID: *c.AccessKeyId, RoleARN: hub, Name: "one", ARN: arn, Issued: got.Issued, Expires: *c.Expiration,
		Tags: map[string]string{"Team": "blau ü", "Cost": ""}, TransitiveTags: []string{"Team"},
		SourceIdentity: "alice@example.com", ExternalID: "not:required/here", Depth: 1,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	call := r.Calls()[0]
	if call.Action != "AssumeRole" || call.Principal != userARN || call.RoleARN != hub || call.SessionName != "one" || call.Status != 200 || call.Code != "" ||
		call.Params["Policy"] != policy || call.Params["Tags.member.1.Value"] != "blau ü" || call.Params["SourceIdentity"] != "alice@example.com" {
		t.Errorf("call %+v", call)
	}
	if n := r.CallCount(hub); n != 1 {
		t.Errorf("count %d, want 1", n)
	}
}

func TestDurationDefaults(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *devsts.Options) {
		o.MinSession = 2 * time.Second
		o.Roles = append(o.Roles, devsts.Role{ARN: "arn:aws:iam::111122223333:role/blink", Principals: []string{userARN}, MaxSession: 5 * time.Second})
	})
	for _, c := range []struct {
		role    string
		seconds *int32
		want    time.Duration
	}{
		{hub, nil, time.Hour},
		{hub, aws.Int32(43200), 12 * time.Hour},
		{"arn:aws:iam::111122223333:role/blink", nil, 5 * time.Second},
		{"arn:aws:iam::111122223333:role/blink", aws.Int32(2), 2 * time.Second},
	} {
		before := time.Now().Truncate(time.Second)
		out, err := r.alice(t).AssumeRole(t.Context(), assume(c.role, "one", func(in *sts.AssumeRoleInput) { in.DurationSeconds = c.seconds }))
		must(t, out, err)
		if life := out.Credentials.Expiration.Sub(before); life < c.want || life > c.want+5*time.Second {
			t.Errorf("%s: life %v, want %v", c.role, life, c.want)
		}
	}
}

func TestChainOfThree(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first, err := r.alice(t).AssumeRole(t.Context(), assume(hub, "one", func(in *sts.AssumeRoleInput) {
		in.SourceIdentity = aws.String("alice")
		in.Tags = []types.Tag{{Key: aws.String("Team"), Value: aws.String("blue")}, {Key: aws.String("Stays"), Value: aws.String("here")}}
		in.TransitiveTagKeys = []string{"Team"}
	}))
	must(t, first, err)
	second, err := r.as(t, first.Credentials).AssumeRole(t.Context(), assume(spoke, "two", func(in *sts.AssumeRoleInput) {
		in.Tags = []types.Tag{{Key: aws.String("Own"), Value: aws.String("2")}}
		in.TransitiveTagKeys = []string{"Own"}
	}))
	must(t, second, err)
	third, err := r.as(t, second.Credentials).AssumeRole(t.Context(), assume(leaf, "three", func(in *sts.AssumeRoleInput) {
		in.SourceIdentity = aws.String("alice") // the same is no change
		in.DurationSeconds = aws.Int32(3600)
	}))
	must(t, third, err)
	c := third.Credentials
	got, err := r.Verify(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
	must(t, got, err)
	if !maps.Equal(got.Tags, map[string]string{"Team": "blue", "Own": "2"}) || !reflect.DeepEqual(got.TransitiveTags, []string{"Own", "Team"}) ||
		got.SourceIdentity != "alice" || got.Depth != 3 || got.RoleARN != leaf {
		t.Errorf("third link %+v", got)
	}
	who, err := r.as(t, c).GetCallerIdentity(t.Context(), nil)
	must(t, who, err)
	if *who.Arn != "arn:aws:sts::444455556666:assumed-role/leaf/three" || *who.Account != "444455556666" || *who.UserId != *third.AssumedRoleUser.AssumedRoleId {
		t.Errorf("identity %s %s %s", *who.Arn, *who.Account, *who.UserId)
	}

	inherited := func(change func(*sts.AssumeRoleInput)) error {
		_, err := r.as(t, first.Credentials).AssumeRole(t.Context(), assume(spoke, "two", change))
		return err
	}
	wantRefusal(t, inherited(func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(3601) }), 400, "ValidationError", "1 hour session limit for roles assumed by role chaining")
	wantRefusal(t, inherited(func(in *sts.AssumeRoleInput) {
		in.Tags = []types.Tag{{Key: aws.String("TEAM"), Value: aws.String("blue")}}
	}), 400, "ValidationError", "conflicts with a transitive tag key")
	wantRefusal(t, inherited(func(in *sts.AssumeRoleInput) { in.SourceIdentity = aws.String("mallory") }), 403, "AccessDenied", "sts:SetSourceIdentity")
	_, err = r.as(t, first.Credentials).AssumeRole(t.Context(), assume(plain, "two"))
	wantRefusal(t, err, 403, "AccessDenied", "sts:TagSession") // inherited tags need it, too
	_, err = r.as(t, first.Credentials).AssumeRole(t.Context(), assume(long, "two"))
	wantRefusal(t, err, 403, "AccessDenied", "sts:TagSession") // trusted by the name of its session
	_, err = r.as(t, second.Credentials).AssumeRole(t.Context(), assume(long, "two"))
	wantRefusal(t, err, 403, "AccessDenied", "sts:AssumeRole")
}

func TestGetCallerIdentityOfUser(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	who, err := r.alice(t).GetCallerIdentity(t.Context(), nil)
	must(t, who, err)
	if *who.Arn != userARN || *who.Account != account || !regexp.MustCompile(`^AIDA[A-Z2-7]{17}$`).MatchString(*who.UserId) {
		t.Errorf("identity %s %s %s", *who.Arn, *who.Account, *who.UserId)
	}
}

func TestTrustIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := func(v string) func(*sts.AssumeRoleInput) {
		return func(in *sts.AssumeRoleInput) { in.ExternalId = &v }
	}
	if _, err := r.alice(t).AssumeRole(t.Context(), assume(guarded, "one", id("door/7"))); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		in      *sts.AssumeRoleInput
		message string
	}{
		"untrusted":         {assume(spoke, "one"), userARN + " is not authorized to perform: sts:AssumeRole on resource: " + spoke},
		"unknown role":      {assume("arn:aws:iam::111122223333:role/none", "one"), "sts:AssumeRole"},
		"role without path": {assume("arn:aws:iam::111122223333:role/hub", "one"), "sts:AssumeRole"},
		"no external id":    {assume(guarded, "one"), "sts:AssumeRole"},
		"wrong external id": {assume(guarded, "one", id("door/8")), "sts:AssumeRole"},
		"tags":              {assume(plain, "one", tags("a", "b")), "sts:TagSession"},
		"source identity":   {assume(plain, "one", func(in *sts.AssumeRoleInput) { in.SourceIdentity = aws.String("me") }), "sts:SetSourceIdentity"},
	} {
		_, err := r.alice(t).AssumeRole(t.Context(), c.in)
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, 403, "AccessDenied", c.message) })
	}
	_, err := r.client(t, "AKIAI44QH8DHBEXAMPLE", rootSecret, "", nil).AssumeRole(t.Context(), assume(plain, "one"))
	wantRefusal(t, err, 403, "AccessDenied", "Roles may not be assumed by root accounts")
}

func tags(pairs ...string) func(*sts.AssumeRoleInput) {
	return func(in *sts.AssumeRoleInput) {
		for i := 0; i < len(pairs); i += 2 {
			in.Tags = append(in.Tags, types.Tag{Key: &pairs[i], Value: &pairs[i+1]})
		}
	}
}

func TestOtherActionsAreInvalid(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, err := r.alice(t).GetSessionToken(t.Context(), nil)
	wantRefusal(t, err, 400, "InvalidAction", "Could not find operation GetSessionToken for version 2011-06-15")
}

func TestVerifyTellsTornFromExpired(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var c [2]*types.Credentials
	for i := range c {
		out, err := r.alice(t).AssumeRole(t.Context(), assume(hub, "one"))
		c[i] = must(t, out, err).Credentials
	}
	for _, mix := range [][3]int{{0, 0, 1}, {0, 1, 0}, {1, 0, 0}, {1, 1, 0}} {
		_, err := r.Verify(*c[mix[0]].AccessKeyId, *c[mix[1]].SecretAccessKey, *c[mix[2]].SessionToken)
		gen := func(i int) string { return []string{"generation 1", "generation 2"}[i] }
		text := "access key id " + gen(mix[0]) + ", secret " + gen(mix[1]) + ", token " + gen(mix[2])
		if !errors.Is(err, devsts.ErrTorn) || !strings.Contains(err.Error(), text) {
			t.Errorf("mix %v: got %v, want %s", mix, err, text)
		}
	}
	token := []byte(*c[0].SessionToken)
	for i := range token {
		bad := append([]byte(nil), token...)
		bad[i] ^= 1
		if _, err := r.Verify(*c[0].AccessKeyId, *c[0].SecretAccessKey, string(bad)); !errors.Is(err, devsts.ErrTorn) {
			t.Fatalf("a token with byte %d changed: got %v", i, err)
		}
	}
	if _, err := r.Verify("ASIAIOSFODNN7EXAMPLE", "", ""); !errors.Is(err, devsts.ErrTorn) {
		t.Errorf("foreign keys: got %v", err)
	}
	r.shift.Store(int64(time.Hour))
	sess, err := r.Verify(*c[0].AccessKeyId, *c[0].SecretAccessKey, *c[0].SessionToken)
	if !errors.Is(err, devsts.ErrExpired) || sess.Generation != 1 {
		t.Errorf("after an hour: got generation %d, %v", sess.Generation, err)
	}
}

func TestSeedRepeatsKeys(t *testing.T) {
	t.Parallel()
	get := func() string {
		out, err := newRig(t).alice(t).AssumeRole(t.Context(), assume(hub, "one"))
		must(t, out, err)
		return *out.Credentials.AccessKeyId + *out.Credentials.SecretAccessKey
	}
	if a, b := get(), get(); a != b {
		t.Error("the same seed made different keys")
	}
}

func TestLogIsBoundedAndHoldsNoSecret(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.issuer.Mint(map[string]any{"sub": "host:a", "aud": audience})
	_, err := r.alice(t).AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{RoleArn: aws.String(hub), RoleSessionName: aws.String("one"), WebIdentityToken: &token})
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.alice(t).AssumeRole(t.Context(), assume(hub, "one"))
	must(t, out, err)
	b, err := json.Marshal(r.Calls())
	must(t, b, err)
	for _, s := range []string{token, *out.Credentials.SessionToken, *out.Credentials.SecretAccessKey, secret} {
		if strings.Contains(string(b), s) {
			t.Error("the log holds a secret")
		}
	}
	for i := range 600 {
		raw(r.Server, "POST", "/", form("Action", "Nothing", "Junk", strings.Repeat("x", 100_000*(i/599))), nil)
	}
	calls := r.Calls()
	if len(calls) != 512 || r.CallCount("") != 602 || r.CallCount(hub) != 2 {
		t.Errorf("%d calls kept, %d counted, %d of the role", len(calls), r.CallCount(""), r.CallCount(hub))
	}
	if n := len(calls[511].Params["Junk"]); n > 64<<10 {
		t.Errorf("a call keeps %d bytes", n)
	}
	raw(r.Server, "POST", "/", form("Action", "Last"), nil)
	if last := r.Calls()[511]; last.Action != "Last" {
		t.Errorf("the latest call is %q", last.Action)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seen := sync.Map{}
	var wg sync.WaitGroup
	for range 8 {
		c := r.alice(t)
		wg.Go(func() {
			for range 20 {
				out, err := c.AssumeRole(t.Context(), assume(hub, "one"))
				if err != nil {
					t.Error(err)
					return
				}
				k := out.Credentials
				sess, err := r.Verify(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)
				if err != nil {
					t.Error(err)
				}
				if _, twice := seen.LoadOrStore(sess.Generation, true); twice {
					t.Errorf("generation %d twice", sess.Generation)
				}
				r.Break(devsts.Fault{Name: "nothing", Calls: 1, Action: "none"})
				r.Calls()
				r.Heal()
				r.issuer.Keys()
			}
		})
	}
	wg.Wait()
}

func TestOptionsThatCannotWorkPanic(t *testing.T) {
	t.Parallel()
	good := devsts.Options{Account: account, Region: region, Now: time.Now}
	devsts.New(good)
	for name, spoil := range map[string]func(*devsts.Options){
		"no clock":        func(o *devsts.Options) { o.Now = nil },
		"account":         func(o *devsts.Options) { o.Account = "1" },
		"region":          func(o *devsts.Options) { o.Region = "" },
		"min session":     func(o *devsts.Options) { o.MinSession = time.Millisecond },
		"user":            func(o *devsts.Options) { o.Users = []devsts.User{{ARN: userARN}} },
		"role":            func(o *devsts.Options) { o.Roles = []devsts.Role{{ARN: "hub"}} },
		"max session":     func(o *devsts.Options) { o.Roles = []devsts.Role{{ARN: hub, MaxSession: time.Minute}} },
		"remote provider": func(o *devsts.Options) { o.Providers = []devsts.Provider{{Issuer: "https://idp.example.com"}} },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("New took it")
				}
			}()
			o := good
			spoil(&o)
			devsts.New(o)
		})
	}
}
