package metrics_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/hostrole/hostrole/agent/metrics"
)

// A daemon is what a Metrics asks, as far as a test sets it.
type daemon struct {
	*metrics.Metrics
	log bytes.Buffer

	mu      sync.Mutex
	roles   []metrics.Role
	config  metrics.Config
	missing int
	broken  bool
}

var now = time.Date(2026, 11, 26, 12, 0, 0, 500_000_000, time.UTC)

func newDaemon() *daemon {
	d := &daemon{
		roles:  []metrics.Role{{Name: "app", Live: true, Expires: now.Add(time.Hour), Headroom: time.Hour}},
		config: metrics.Config{AtWork: true, Since: now},
	}
	d.Metrics = metrics.New(metrics.Options{
		Log: slog.New(slog.NewTextHandler(&d.log, nil)), Version: "v1.2.3", Revision: "4de13c4",
		Listeners: []metrics.Listener{{"host", "imds"}, {"tasks", "ecs"}},
		Roles: func() []metrics.Role {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.broken {
				panic("broken")
			}
			return slices.Clone(d.roles)
		},
		Config:      func() metrics.Config { d.mu.Lock(); defer d.mu.Unlock(); return d.config },
		Connections: func(listener string) int { return len(listener) },
		Missing:     func() int { d.mu.Lock(); defer d.mu.Unlock(); return d.missing },
	})
	return d
}

// set changes what is asked.
func (d *daemon) set(change func(*daemon)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// text is what a scrape gets.
func text(t testing.TB, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func families(t testing.TB, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	all, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// scrape is text as series.
func scrape(t testing.TB, h http.Handler) (all []series) {
	t.Helper()
	for name, f := range families(t, text(t, h)) {
		for _, m := range f.Metric {
			labels := map[string]string{nameLabel: name}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			add := func(suffix string, v float64, more ...string) {
				l := maps.Clone(labels)
				l[nameLabel] += suffix
				if len(more) > 0 {
					l["le"] = more[0]
				}
				all = append(all, series{l, v})
			}
			switch {
			case m.Histogram != nil:
				add("_sum", m.Histogram.GetSampleSum())
				add("_count", float64(m.Histogram.GetSampleCount()))
				for _, b := range m.Histogram.Bucket {
					add("_bucket", float64(b.GetCumulativeCount()), strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64))
				}
			case m.Summary != nil:
				add("_sum", m.Summary.GetSampleSum())
				add("_count", float64(m.Summary.GetSampleCount()))
			default:
				add("", m.GetGauge().GetValue()+m.GetCounter().GetValue()+m.GetUntyped().GetValue())
			}
		}
	}
	return all
}

// value evaluates an expression that has one value.
func value(t testing.TB, h http.Handler, text string) float64 {
	t.Helper()
	e, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	switch v := e.eval(scrapes{after: scrape(t, h)}).vector; len(v) {
	case 0:
		return math.NaN()
	case 1:
		return v[0].value
	default:
		t.Fatalf("%s has %d values", text, len(v))
		return 0
	}
}

func name(s series) string { return fmt.Sprint(s.labels) }
