package metrics_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/hostrole/hostrole/agent/metrics"
)

const (
	rulesFile     = "../../packaging/prometheus/hostrole.rules.yaml"
	rehearsalFile = "../../packaging/prometheus/hostrole.rules.test.yaml"
	runbooksFile  = "../../packaging/docs/runbooks.md"
	dashboardFile = "../../packaging/grafana/hostrole.json"
)

type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T) []rule {
	t.Helper()
	b, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || file.Groups[0].Name != "hostrole" {
		t.Fatalf("the groups are %+v", file.Groups)
	}
	return file.Groups[0].Rules
}

// incidents make the condition of each alert true.
var incidents = map[string]func(*daemon){
	"HostroleDown":           nil, // Prometheus's own metric
	"HostroleRoleDown":       func(d *daemon) { d.roles[0].Live = false },
	"HostroleHeadroomLow":    func(d *daemon) { d.roles[0].Headroom, d.roles[0].Failures = 10*time.Minute, 7 },
	"HostroleRenewalFailing": func(d *daemon) { d.roles[0].Failures = 1 },
	"HostroleClockSkew":      func(d *daemon) { d.roles[0].Skew = -2 * time.Minute },
	"HostroleReloadFailed":   func(d *daemon) { d.config.AtWork = false },
	"HostroleAddressMissing": func(d *daemon) { d.missing = 1 },
	"HostroleAddressRemoved": func(d *daemon) { d.Address(metrics.PutBack, 4) },
	"HostroleAddressRival":   func(d *daemon) { d.Address(metrics.Rival, 1) },
	"HostroleAuditFailing":   func(d *daemon) { d.Unrecorded() },
	"HostroleErrors": func(d *daemon) {
		requests(d, 100, 200, time.Millisecond, true)
		requests(d, 10, 503, time.Millisecond, true)
	},
	"HostroleSlow": func(d *daemon) { requests(d, 10, 200, 200*time.Millisecond, true) },
	"HostroleCallersUnknown": func(d *daemon) {
		requests(d, 80, 200, time.Millisecond, true)
		requests(d, 20, 404, time.Millisecond, false)
	},
	"HostroleDenied":        func(d *daemon) { decisions(d, 100, metrics.Denied) },
	"HostroleTokensRefused": func(d *daemon) { requests(d, 100, 401, time.Millisecond, true) },
	"HostroleFault":         func(d *daemon) { d.Panic(metrics.InRequest) },
}

func requests(d *daemon, n, status int, took time.Duration, identified bool) {
	for range n {
		d.Request("host", status, took, identified)
	}
}

func decisions(d *daemon, n int, verdict string) {
	for range n {
		d.Decision("imds", verdict, metrics.NoRule)
	}
}

// Each alert fires when it should, and not on a day like any other.
func TestRules(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range rules(t) {
		seen[r.Alert] = true
		t.Run(r.Alert, func(t *testing.T) {
			t.Parallel()
			e, err := parse(r.Expr)
			if err != nil {
				t.Fatal(err)
			}
			known(t, e)
			if r.For != "" {
				if _, err := time.ParseDuration(r.For); err != nil {
					t.Error(err)
				}
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("the severity is %q", r.Labels["severity"])
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Error("it does not say what is wrong and what to do")
			}
			for _, label := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(r.Annotations["summary"], -1) {
				if !hasLabel(t, e, label[1]) {
					t.Errorf("the summary names the label %s, which is not there", label[1])
				}
			}
			incident, listed := incidents[r.Alert]
			if !listed {
				t.Fatal("nothing makes its condition true: add an incident")
			}
			if incident == nil {
				return
			}
			d := newDaemon()
			ordinary(d)
			before := scrape(t, d)
			ordinary(d)
			if quiet := e.eval(scrapes{before, scrape(t, d)}).vector; len(quiet) > 0 {
				t.Errorf("it fires while all is well: %v", quiet)
			}
			before = scrape(t, d)
			d.set(incident)
			if len(e.eval(scrapes{before, scrape(t, d)}).vector) == 0 {
				t.Errorf("%s is not true", r.Expr)
			}
		})
	}
	for alert := range incidents {
		if !seen[alert] {
			t.Errorf("there is no alert %s", alert)
		}
	}
}

// ordinary is a day like any other: a role is renewed, another was revoked, a
// third lives for a quarter of an hour at a time; a client errs now and then.
func ordinary(d *daemon) {
	d.set(func(d *daemon) {
		d.roles = append(d.roles[:1:1], metrics.Role{Name: "taken", Revoked: true},
			metrics.Role{Name: "short", Live: true, Expires: now.Add(8 * time.Minute), Headroom: 8 * time.Minute, Skew: 3 * time.Second},
			metrics.Role{Name: "fixed", Live: true, Endless: true})
	})
	requests(d, 1000, 200, time.Millisecond, true)
	requests(d, 5, 401, time.Millisecond, true)
	requests(d, 5, 404, time.Millisecond, false)
	requests(d, 5, 503, 500*time.Millisecond, true)
	decisions(d, 1000, metrics.Granted)
	decisions(d, 5, metrics.Denied)
	d.Renewal("app", metrics.Fine, time.Second)
	d.Address(metrics.PutBack, 1)
}

// full shows every metric that there is.
func full(t *testing.T) []series {
	t.Helper()
	d := newDaemon()
	ordinary(d)
	d.Renewal("app", "refused", time.Second)
	return scrape(t, d)
}

// known fails on what an expression selects and nobody exposes.
func known(t *testing.T, e expression) {
	t.Helper()
	all := full(t)
	if len(e.selected) == 0 {
		t.Error("it selects nothing")
	}
	for _, s := range e.selected {
		i := slices.IndexFunc(all, func(one series) bool { return one.labels[nameLabel] == s.name })
		if s.name == "up" { // Prometheus's own
			continue
		}
		if i < 0 {
			t.Errorf("there is no metric %s", s.name)
			continue
		}
		for _, label := range s.labels {
			if _, there := all[i].labels[label]; !there && label != "instance" && label != "job" {
				t.Errorf("%s has no label %s", s.name, label)
			}
		}
	}
}

func hasLabel(t *testing.T, e expression, label string) bool {
	t.Helper()
	return label == "instance" || slices.ContainsFunc(full(t), func(one series) bool {
		_, there := one.labels[label]
		return there && one.labels[nameLabel] == e.selected[0].name
	})
}

// Every panel of the dashboard asks for what there is.
func TestDashboard(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		UID, Title string
		Templating struct{ List []struct{ Name string } }
		Panels     []struct {
			ID                 int
			Title, Description string
			GridPos            struct{ X, Y, W, H int }
			Targets            []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	if board.UID == "" || board.Title == "" || len(board.Panels) == 0 {
		t.Fatal("the dashboard is empty")
	}
	variables := []string{"__rate_interval", "__all"}
	for _, v := range board.Templating.List {
		variables = append(variables, v.Name)
	}
	for _, v := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(b), -1) {
		if !slices.Contains(variables, v[1]) {
			t.Errorf("there is no variable %s", v[1])
		}
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q has an id twice, or lacks a title, a description or a target", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q, or beyond the edge", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			e, err := parse(target.Expr)
			if err != nil {
				t.Errorf("panel %q: %v", p.Title, err)
				continue
			}
			known(t, e)
			for _, label := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !hasLabel(t, e, label[1]) || strings.Contains(target.Expr, " by (") && label[1] == "instance" {
					t.Errorf("panel %q: the legend names the label %s, which is not there", p.Title, label[1])
				}
			}
		}
	}
}
