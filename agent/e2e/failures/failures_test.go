//go:build linux

package failures_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/hostrole/hostrole/agent/devsts"
)

const troubleshooting = "../../../packaging/docs/troubleshooting.md"

func breakIt(s *sts, fault string) {
	f := devsts.Named(fault)
	f.Role = arn("broken")
	s.Break(f)
}

func must(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// token asks as a good SDK does.
func (h *host) token(path string) {
	h.t.Helper()
	base := "http://127.0.0.1:" + h.port()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	do := func(method, path, name, value string) string {
		req, err := http.NewRequest(method, base+path, nil)
		if err != nil {
			h.t.Fatal(err)
		}
		req.Header.Set(name, value)
		resp, err := client.Do(req)
		if err != nil {
			h.t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			h.t.Fatal(err)
		}
		return string(text)
	}
	do(http.MethodGet, path, "X-aws-ec2-metadata-token", do(http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60"))
}

// said finds a text, in which ** is anything.
func said(in, what string) bool {
	return regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(what), `\*\*`, ".*")).MatchString(in)
}

// Each failure is made, and whoever asks is told why, and what to do.
func TestFailures(t *testing.T) {
	noteSources(t)
	if len(failures) < 25 {
		t.Errorf("there are %d failures", len(failures))
	}
	for _, f := range failures {
		t.Run(f.symptom, func(t *testing.T) {
			ownnet.Need(t)
			got := f.made(t)
			t.Log(got)
			for _, what := range f.says {
				if !said(got, what) {
					t.Errorf("it does not say %q, but\n%s", what, got)
				}
			}
			if strings.Contains(got, secret) {
				t.Errorf("a secret is in\n%s", got)
			}
		})
	}
}

// The page has an entry for each failure, with the words by which people know
// it, and no other.
func TestTroubleshooting(t *testing.T) {
	text, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]string{}
	for _, part := range strings.Split(string(text), "\n### ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		if _, twice := entries[title]; twice {
			t.Errorf("%q is there twice", title)
		}
		entries[title] = strings.Join(strings.Fields(body), " ")
	}
	for _, f := range failures {
		body, there := entries[f.symptom]
		if !there {
			t.Errorf("the page has no %q", f.symptom)
			continue
		}
		for _, what := range f.says {
			if !strings.Contains(strings.ReplaceAll(body, "…", "**"), what) {
				t.Errorf("the entry %q does not have the words %q", f.symptom, what)
			}
		}
		for _, part := range []string{"**Cause:**", "**Remedy:**"} {
			if !strings.Contains(body, part) {
				t.Errorf("the entry %q has no %s", f.symptom, part)
			}
		}
	}
	for title := range entries {
		if !slices.ContainsFunc(failures, func(f failure) bool { return f.symptom == title }) {
			t.Errorf("nobody makes %q", title)
		}
	}
}
