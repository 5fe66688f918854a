package rotation_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var fleetUpdate = flag.Bool("fleet.update", false, "write packaging/docs/fleet.svg anew; see TestThePlotOfTheFleet")

// A panel is one diagram: bars from values, each over the same time.
type panel struct {
	title, unit string
	values      []float64
	step        time.Duration // of a value
	marks       time.Duration // between the marks of the time axis
	limit       float64       // a line; 0 for none
	limitText   string
	most        float64 // top of the scale
}

const (
	panelWidth, panelHeight, panelLeft, panelTop = 720, 150, 70, 40
	panelBelow                                   = 40
)

// svg draws panels below one another, in colours that stand on white and black.
func svg(panels []panel) string {
	var b strings.Builder
	height := len(panels) * (panelTop + panelHeight + panelBelow)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", panelLeft+panelWidth+30, height)
	fmt.Fprintf(&b, "<title>How a fleet of %d hosts with %d roles each asks STS</title>\n", fleetHosts, fleetRoles)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", panelLeft+panelWidth+30, height)
	for i, p := range panels {
		p.draw(&b, i*(panelTop+panelHeight+panelBelow)+panelTop)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p panel) draw(b *strings.Builder, top int) {
	y := func(v float64) float64 { return float64(top) + panelHeight*(1-v/p.most) }
	x := func(i float64) float64 { return panelLeft + panelWidth*i/float64(len(p.values)) }
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", panelLeft, top-14, p.title)
	for i := range 5 {
		v := p.most * float64(i) / 4
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g%s</text>`+"\n", panelLeft, y(v), panelLeft+panelWidth, panelLeft-6, y(v)+4, v, p.unit)
	}
	var path strings.Builder
	fmt.Fprintf(&path, "M%d %d", panelLeft, top+panelHeight)
	for i, v := range p.values {
		fmt.Fprintf(&path, "V%.1fH%.1f", y(min(v, p.most)), x(float64(i+1)))
	}
	fmt.Fprintf(b, `<path d="%sV%dZ" fill="#2a6f97"/>`+"\n", path.String(), top+panelHeight)
	if p.limit > 0 {
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#c1121f" stroke-dasharray="6 3"/><text x="%d" y="%.1f" text-anchor="end" fill="#c1121f">%s</text>`+"\n",
			panelLeft, y(p.limit), panelLeft+panelWidth, panelLeft+panelWidth-4, y(p.limit)-4, p.limitText)
	}
	for at := time.Duration(0); at <= p.step*time.Duration(len(p.values)); at += p.marks {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(float64(at)/float64(p.step)), top+panelHeight+18, mark(at))
	}
}

// mark is a time without what is nothing of it.
func mark(at time.Duration) string {
	text := at.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// bars are the values of a stretch of seconds, the greatest or the mean of each step.
func bars(seconds []int, step int, greatest bool, scale float64) (all []float64) {
	for part := range slices.Chunk(seconds, step) {
		sum := 0
		for _, n := range part {
			sum += n
		}
		v := float64(sum) / float64(len(part))
		if greatest {
			v = float64(slices.Max(part))
		}
		all = append(all, v*scale)
	}
	return all
}

// TestThePlotOfTheFleet holds packaging/docs/fleet.svg against the simulation, of
// which every draw is the same at each run. To make it anew:
//
//	go test ./rotation -run TestThePlotOfTheFleet -fleet.update
func TestThePlotOfTheFleet(t *testing.T) {
	booted, away := bootedFleet(), outageFleet()
	asked := newFleet(fleetHosts, 1, defaultSplay)
	asked.readers(1, time.Minute)
	asked.run()
	took := fmt.Sprintf("STS takes %d", quota)
	hosts := 100 / float64(len(away.asked))
	got := svg([]panel{
		{"All hosts boot in the same second: requests a second, by second", "", bars(booted.rate[:300], 1, false, 1), time.Second, 30 * time.Second, quota, took, 800},
		{"The same, and on each host a program asks for its role within a minute", "", bars(asked.rate[:300], 1, false, 1), time.Second, 30 * time.Second, quota, took, 800},
		{"From then on: the peak second of each minute", "", bars(booted.rate[:3*3600], 60, true, 1), time.Minute, 30 * time.Minute, quota, took, 800},
		{"STS is away from 1h to 2h: hosts that ask in a second, of all, the peak of each minute", "%", bars(away.asking[:9000], 60, true, hosts), time.Minute, 30 * time.Minute, 5, "promised: 5 %", 8},
	})
	path := filepath.Join("..", "packaging", "docs", "fleet.svg")
	if *fleetUpdate { // #nosec -- for everybody to read
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(path)
	if err != nil || string(was) != got {
		t.Errorf("%s is not what the simulation draws: make it anew with -fleet.update (%v)", path, err)
	}
}
