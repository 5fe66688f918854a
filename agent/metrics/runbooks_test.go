package metrics_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Each alert has a runbook, where its annotation leads, and is rehearsed: once
// when it must be silent, and once when it must fire.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(runbooksFile)
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		pages[name] = body
	}
	text, err = os.ReadFile(rehearsalFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			Name  string
			Alert []struct {
				Alertname string
				Expected  []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	silent, fires := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, a := range test.Alert {
			silent[a.Alertname] = silent[a.Alertname] || len(a.Expected) == 0
			fires[a.Alertname] = fires[a.Alertname] || len(a.Expected) > 0
		}
	}
	var alerts []string
	for _, r := range rules(t) {
		alerts = append(alerts, r.Alert)
		if !silent[r.Alert] || !fires[r.Alert] {
			t.Errorf("%s is not rehearsed in %s", r.Alert, rehearsalFile)
		}
		for _, part := range []string{"**Means:** ", "**Effect:** ", "**Look:** ", "**Do:** ", "*" + r.Labels["severity"] + "*"} {
			if !strings.Contains(pages[r.Alert], part) {
				t.Errorf("the runbook of %s has no %s", r.Alert, part)
			}
		}
		if want := "/packaging/docs/runbooks.md#" + strings.ToLower(r.Alert); !strings.HasSuffix(r.Annotations["runbook_url"], want) {
			t.Errorf("%s leads to %q, want …%s", r.Alert, r.Annotations["runbook_url"], want)
		}
	}
	for name := range pages {
		if !slices.Contains(alerts, name) {
			t.Errorf("there is a runbook of %s, and no such alert", name)
		}
	}
}
