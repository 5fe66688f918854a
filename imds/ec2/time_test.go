package ec2_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/imds/ec2"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/imdstest"
)

const (
	idPath  = "/latest/meta-data/instance-id"
	iamPath = "/latest/meta-data/iam/security-credentials/"
	appPath = iamPath + "app-role"
)

// get is a GET that must come to an answer.
func get(t testing.TB, c imdstest.Client, token, path string) imdstest.Answer {
	t.Helper()
	a, err := c.Get(t.Context(), token, path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// bubble is the host in a bubble, whose clocks are the bubble's.
func bubble(t *testing.T, s setting) imdstest.Client {
	begin := time.Now()
	s.now = time.Now
	s.boot = func() time.Duration { return time.Hour + 300*time.Millisecond + time.Since(begin) }
	if s.roles == nil {
		s.roles = []string{"app"}
	}
	return client(serve(t, s))
}

func left(t *testing.T, a imdstest.Answer) int {
	t.Helper()
	text, _ := a.Lookup("X-Aws-Ec2-Metadata-Token-Ttl-Seconds")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Errorf("the life that is left is %q", text)
	}
	return n
}

// Rows 30, 34 and 35.
func TestTokenAges(t *testing.T) {
	for name, mode := range map[string]ec2.Tokens{"required": ec2.Required, "credentials": ec2.Credentials, "optional": ec2.Optional} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := bubble(t, setting{tokens: mode})
				tok, err := c.Token(t.Context(), 60)
				if err != nil {
					t.Fatal(err)
				}
				first := get(t, c, tok, idPath)
				time.Sleep(2 * time.Second)
				second := get(t, c, tok, idPath)
				if n, m := left(t, first), left(t, second); n > 60 || n < 59 || n-m != 2 {
					t.Errorf("%d s are left at first, %d s two seconds later", n, m)
				}
				time.Sleep(57500 * time.Millisecond)
				if a := get(t, c, tok, idPath); a.Status != 200 {
					t.Errorf("half a second before its end the token gets %d", a.Status)
				}
				// It is sealed in whole seconds, rounded up.
				time.Sleep(1500 * time.Millisecond)
				if a := get(t, c, tok, idPath); a.Status != 401 {
					t.Errorf("a second after its end the token gets %d", a.Status)
				}
			})
		})
	}
}

// Row 90: from the request to the answer.
func TestHold(t *testing.T) {
	notYet := never(gate.ErrNotReady)
	for name, s := range map[string]setting{
		"never had one": {credentials: newCredentials(notYet)},
		"has expired":   {credentials: newCredentials(expired)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s.tokens, s.credentials = ec2.Optional, s.credentials.Again()
				c := bubble(t, s)
				begin := time.Now()
				a := get(t, c, "", appPath)
				if took := time.Since(begin); a.Status != 503 || took != 400*time.Millisecond {
					t.Errorf("status %d after %v, want 503 after 400ms", a.Status, took)
				}
			})
		})
	}
	t.Run("neither the list nor a refusal is held", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := bubble(t, setting{tokens: ec2.Optional, credentials: newCredentials(never(gate.ErrRefused))})
			begin := time.Now()
			get(t, c, "", iamPath)
			get(t, c, "", appPath)
			if took := time.Since(begin); took != 0 {
				t.Errorf("both took %v", took)
			}
		})
	})
}

// Row 90b.
func TestRecoveryDuringTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		creds := newCredentials(never(gate.ErrNotReady))
		c := bubble(t, setting{tokens: ec2.Optional, credentials: creds})
		begin := time.Now()
		time.AfterFunc(250*time.Millisecond, func() { creds.Publish(always(example(time.Now(), time.Hour))) })
		a := get(t, c, "", appPath)
		if took := time.Since(begin); a.Status != 200 || took != 250*time.Millisecond {
			t.Errorf("status %d after %v, want 200 after 250ms", a.Status, took)
		}
		if d := parse(t, a.Body); d.AccessKeyId != "AKIAIOSFODNN7EXAMPLE" {
			t.Errorf("the document is %+v", d)
		}
	})
}

// A decision that could not be recorded keeps the credential back, and the
// workload comes again.
func TestNoRecordNoCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bubble(t, setting{tokens: ec2.Optional, record: func(gate.Event) error { return errors.New("the disk is full") }})
		a := get(t, c, "", appPath)
		if again, _ := a.Lookup("Retry-After"); a.Status != 503 || again != "1" || len(a.Body) != 0 {
			t.Errorf("status %d, Retry-After %q, body %q", a.Status, again, a.Body)
		}
	})
}

// A doc is the document of a role, as an SDK reads it.
type doc struct{ Code, LastUpdated, Type, AccessKeyId, SecretAccessKey, Token, Expiration string }

func parse(t testing.TB, body []byte) doc {
	t.Helper()
	var d doc
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return d
}

// Row 81, byte by byte.
func TestDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(serve(t, setting{tokens: ec2.Optional, roles: []string{"app"}}))
		const want = `{
  "Code" : "Success",
  "LastUpdated" : "2026-01-02T03:04:05Z",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "AKIAIOSFODNN7EXAMPLE",
  "SecretAccessKey" : "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
  "Token" : "FwoGZXIvYXdzEXAMPLETOKEN==",
  "Expiration" : "2026-01-02T09:04:05Z"
}`
		a := get(t, c, "", appPath)
		if string(a.Body) != want {
			t.Errorf("got\n%s\nwant\n%s", a.Body, want)
		}
		if got, _ := a.Lookup("Last-Modified"); got != "Fri, 02 Jan 2026 03:04:05 GMT" {
			t.Errorf("Last-Modified is %s, want the time of issue", got)
		}
		const info = `{
  "Code" : "Success",
  "LastUpdated" : "2026-01-02T03:00:00Z",
  "InstanceProfileArn" : "arn:aws:iam::111122223333:instance-profile/app-role",
  "InstanceProfileId" : "AIPA`
		if got := string(get(t, c, "", "/latest/meta-data/iam/info").Body); !strings.HasPrefix(got, info) {
			t.Errorf("info is\n%s", got)
		}
	})
}

// SDKs parse only UTC in whole seconds, whatever zone and fraction the upstream
// answered in.
func TestTimesAreUTCInWholeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		berlin := time.FixedZone("CET", 3600)
		c := example(time.Date(2026, 1, 2, 4, 4, 5, 678_900_000, berlin), 6*time.Hour)
		d := parse(t, get(t, client(serve(t, setting{tokens: ec2.Optional, roles: []string{"app"}, credentials: newCredentials(always(c))})), "", appPath).Body)
		if d.LastUpdated != "2026-01-02T03:04:05Z" || d.Expiration != "2026-01-02T09:04:05Z" {
			t.Errorf("times are %s and %s", d.LastUpdated, d.Expiration)
		}
		e := parse(t, get(t, client(serve(t, setting{tokens: ec2.Optional, roles: []string{"app"}, credentials: newCredentials(always(endless))})), "", appPath).Body)
		if want := started.Add(6 * time.Hour).Format(time.RFC3339); e.Expiration != want || e.Token != "" {
			t.Errorf("a credential that never expires has Expiration %s and Token %q, want %s and none", e.Expiration, e.Token, want)
		}
	})
}

// The account and the partition of a profile are those of the role's ARN.
func TestInfoOfOtherPartitions(t *testing.T) {
	for role, want := range map[string]string{
		"second": "arn:aws:iam::444455556666:instance-profile/second-role",
		"odd":    "arn:aws-cn:iam::777788889999:instance-profile/a+b=c,d@e",
		"minio":  "arn:aws:iam::111122223333:instance-profile/minio",
	} {
		synctest.Test(t, func(t *testing.T) {
			c := client(serve(t, setting{tokens: ec2.Optional, roles: []string{role}}))
			var got struct{ InstanceProfileArn, InstanceProfileId string }
			if err := json.Unmarshal(get(t, c, "", "/latest/meta-data/iam/info").Body, &got); err != nil || got.InstanceProfileArn != want {
				t.Errorf("role %s: %+v and %v, want %s", role, got, err, want)
			}
			if !regexp.MustCompile(`^AIPA[A-Z2-7]{17}$`).MatchString(got.InstanceProfileId) {
				t.Errorf("role %s: the id is %q", role, got.InstanceProfileId)
			}
		})
	}
}

// Row 95.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		creds := newCredentials(always(example(time.Now(), time.Hour)))
		c := bubble(t, setting{tokens: ec2.Optional, credentials: creds})
		first := parse(t, get(t, c, "", appPath).Body)
		time.Sleep(30 * time.Minute)
		creds.Publish(always(example(time.Now(), time.Hour)))
		second := parse(t, get(t, c, "", appPath).Body)
		if second.LastUpdated <= first.LastUpdated || second.Expiration <= first.Expiration {
			t.Errorf("%+v was followed by %+v", first, second)
		}
	})
}

// Row 94, this package's part: nothing here waits for anything, so all answers
// come at the instant of the questions. Half of them ask while there is no
// credential and are served by the one that arrives.
func TestManyReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		creds := newCredentials(never(gate.ErrNotReady))
		c := bubble(t, setting{tokens: ec2.Optional, credentials: creds})
		begin := time.Now()
		time.AfterFunc(100*time.Millisecond, func() { creds.Publish(always(example(time.Now(), time.Hour))) })
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				time.Sleep(time.Duration(i%2) * 200 * time.Millisecond)
				if a := get(t, c, "", appPath); a.Status != 200 {
					t.Errorf("reader %d got %d", i, a.Status)
				}
			})
		}
		all.Wait()
		if took := time.Since(begin); took != 200*time.Millisecond {
			t.Errorf("200 readers took %v, want the 200ms that the last ones slept", took)
		}
	})
}

// Row 27.
func TestManyTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bubble(t, setting{})
		seen := map[string]bool{}
		for range 1000 {
			tok, err := c.Token(t.Context(), 21600)
			if err != nil {
				t.Fatal(err)
			}
			seen[tok] = true
		}
		if len(seen) != 1000 {
			t.Errorf("1000 tokens are %d different ones", len(seen))
		}
		for tok := range seen {
			if a := get(t, c, tok, idPath); a.Status != 200 {
				t.Fatalf("a token of 1000 gets %d", a.Status)
			}
		}
	})
}

// Row 67: what cloud-init does. It walks every directory that is listed and
// drops all if one thing that is listed is not there.
func TestCrawl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(serve(t, setting{tokens: ec2.Optional, roles: []string{"app"}}))
		found := map[string]string{}
		var walk func(dir string)
		walk = func(dir string) {
			a := get(t, c, "", dir)
			if a.Status != 200 {
				t.Errorf("%s is listed and gets %d", dir, a.Status)
				return
			}
			for name := range strings.SplitSeq(string(a.Body), "\n") {
				switch {
				case name == "":
					t.Errorf("%s has an empty line", dir)
				case name == "security-credentials/": // cloud-init's rule
				case strings.HasSuffix(name, "/"):
					walk(dir + name)
				default:
					leaf := get(t, c, "", dir+name)
					if leaf.Status != 200 {
						t.Errorf("%s is listed and gets %d", dir+name, leaf.Status)
					}
					found[strings.TrimPrefix(dir+name, "/2021-03-23/meta-data/")] = string(leaf.Body)
				}
			}
		}
		walk("/2021-03-23/meta-data/")
		all := maps.Clone(leaves)
		maps.Copy(all, network)
		for path, want := range all {
			if found[path] != want {
				t.Errorf("the crawl found %q at %s, want %q", found[path], path, want)
			}
		}
		if len(found) != len(all)+1 || found["iam/info"] == "" {
			t.Errorf("the crawl found %d values, want %d and iam/info", len(found), len(all))
		}
	})
}

// Only what concerns a credential is recorded: one record a decision.
func TestWhatIsRecorded(t *testing.T) {
	for _, c := range []struct {
		roles []string
		path  string
		want  []string
	}{
		{[]string{"app"}, idPath, nil},
		{[]string{"app"}, "/latest/meta-data/", nil},
		{[]string{"app"}, iamPath, nil},
		{[]string{"app"}, appPath, []string{"imds app-role " + example(issued, 1).ID() + " <nil>"}},
		{[]string{"app"}, iamPath + "other", []string{`imds other  ` + gate.ErrDenied.Error()}},
		{nil, idPath, nil},
		{nil, "/latest/meta-data/", nil},
		{nil, iamPath, []string{`imds   ` + gate.ErrDenied.Error()}},
		{nil, appPath, []string{`imds app-role  ` + gate.ErrDenied.Error()}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var got []string
			record := func(e gate.Event) error {
				got = append(got, fmt.Sprintf("%s %s %s %v", e.Endpoint, e.Role, e.Credential, e.Err))
				return nil
			}
			get(t, client(serve(t, setting{tokens: ec2.Optional, roles: c.roles, record: record})), "", c.path)
			synctest.Wait()
			if !slices.Equal(got, c.want) {
				t.Errorf("roles %v, %s: recorded %q, want %q", c.roles, c.path, got, c.want)
			}
		})
	}
}
