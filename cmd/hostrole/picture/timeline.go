package picture

import (
	"fmt"
	"strconv"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
)

// The time line, in the units of its view box.
const (
	lineWide   = 1060.0
	names      = 130.0 // the column of the names
	laneHigh   = 42.0
	railHigh   = 16.0
	topHigh    = 22.0
	tallyHigh  = 46.0
	mostLanes  = 24
	mostLetter = 17 // of a name
)

// An axis says where a time is.
type axis struct {
	from, to, now time.Time
}

func (a axis) at(t time.Time) float64 {
	part := float64(t.Sub(a.from)) / float64(a.to.Sub(a.from))
	return names + min(max(part, 0), 1)*(lineWide-names)
}

// steps are the distances of the marks.
var steps = []time.Duration{5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour}

func number(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

func rect(m *markup, how word, x, y, wide, high, round float64) {
	m.begin("rect", class(how), is("x", number(x)), is("y", number(y)), is("width", number(max(wide, 0))), is("height", number(high)), is("rx", number(round)))
	m.end()
}

// told is a rect with a text that a browser shows to who points at it.
func told(m *markup, how word, x, y, wide, high, round float64, text string) {
	m.begin("rect", class(how), is("x", number(x)), is("y", number(y)), is("width", number(max(wide, 0))), is("height", number(high)), is("rx", number(round)))
	m.leaf("title", text)
	m.end()
}

// timeline draws what was, and until when what is lasts.
func (v view) timeline(m *markup) {
	m.begin("section", is("aria-labelledby", "timeline"))
	m.begin("nav", is("aria-label", "How far back"))
	for _, s := range spans {
		to := "?span=" + s.name
		if v.Still {
			to = "?still&span=" + s.name
		}
		if s == v.span {
			m.leaf("a", string(s.name), link(to), is("aria-current", "true"))
			continue
		}
		m.leaf("a", string(s.name), link(to))
	}
	m.end()
	m.leaf("h2", "Credentials over time", is("id", "timeline"))
	a := v.axis()
	lanes := v.lanes()
	high := topHigh + laneHigh*float64(len(lanes)) + tallyHigh + 20
	m.begin("div", class("wide"))
	m.begin("svg", class("line"), is("viewBox", fmt.Sprintf("0 0 %.0f %.0f", lineWide, high)), is("role", "img"), is("aria-label", v.inWords()))
	m.begin("defs")
	m.begin("pattern", is("id", "gap"), is("width", "6"), is("height", "6"), is("patternUnits", "userSpaceOnUse"), is("patternTransform", "rotate(45)"))
	rect(m, "gapback", 0, 0, 6, 6, 0)
	m.begin("line", class("gapline"), is("x1", "0"), is("x2", "0"), is("y1", "0"), is("y2", "6"))
	m.end()
	m.end()
	m.end()
	a.marks(m, high)
	for i, lane := range lanes {
		lane.draw(m, a, topHigh+laneHigh*float64(i))
	}
	v.tally(m, a, topHigh+laneHigh*float64(len(lanes)))
	x := number(a.at(a.now))
	m.begin("line", class("now"), is("x1", x), is("x2", x), is("y1", "16"), is("y2", number(high-18)))
	m.end()
	m.leaf("text", "now", class("nowtext"), is("x", x), is("y", "11"), is("text-anchor", "middle"))
	m.end()
	m.end()
	key(m)
	m.end()
}

// axis reaches as far ahead as the credentials, within reason.
func (v view) axis() axis {
	ahead := v.span.back / 8
	for _, r := range v.Status.Roles {
		if r.Left != nil {
			ahead = max(ahead, time.Duration(*r.Left*float64(time.Second)))
		}
	}
	ahead = min(ahead+ahead/20, v.span.back/2)
	return axis{v.Status.Time.Add(-v.span.back), v.Status.Time.Add(ahead), v.Status.Time}
}

func (a axis) marks(m *markup, high float64) {
	step := 12 * time.Hour
	for _, s := range steps {
		if a.to.Sub(a.from)/s <= 10 {
			step = s
			break
		}
	}
	for t := a.from.UTC().Truncate(step).Add(step); a.at(t) < lineWide-18; t = t.Add(step) {
		x := number(a.at(t))
		m.begin("line", class("grid"), is("x1", x), is("x2", x), is("y1", number(topHigh-4)), is("y2", number(high-18)))
		m.end()
		m.leaf("text", t.Format("15:04"), is("x", x), is("y", number(high-4)), is("text-anchor", "middle"))
	}
}

// A lane is one session.
type lane struct {
	name string
	role admin.Role
	past admin.Past
}

// lanes are the sessions; roles that share one share its lane.
func (v view) lanes() (all []lane) {
	past := map[string]admin.Past{}
	for _, p := range v.History.Roles {
		past[p.Role] = p
	}
	seen := map[string]bool{}
	for _, r := range v.Status.Roles {
		if seen[r.Session] || len(all) == mostLanes {
			continue
		}
		seen[r.Session] = true
		l := lane{name: r.Name, role: r, past: past[r.Name]}
		for _, other := range r.Others {
			if len(l.past.Lives)+len(l.past.Outages) == 0 {
				l.past = past[other]
			}
		}
		if len(r.Others) > 0 {
			l.name += fmt.Sprintf(" +%d", len(r.Others))
		}
		if n := len(l.past.Lives); r.Issued != nil && (n == 0 || l.past.Lives[n-1].Credential != r.Credential) {
			// It was handed over by the process before this one.
			l.past.Lives = append(l.past.Lives, admin.Life{Credential: r.Credential, Issued: *r.Issued, Expires: r.Expires})
		}
		all = append(all, l)
	}
	return all
}

func (l lane) draw(m *markup, a axis, y float64) {
	rail := y + 10
	m.leaf("text", cut(l.name, mostLetter), class("name"), is("x", "0"), is("y", number(rail+12.5)))
	rect(m, "rail", names, rail, lineWide-names, railHigh, 3)
	for i, life := range l.past.Lives {
		until := a.now
		if life.Replaced != nil {
			until = *life.Replaced
		}
		dead := life.Expires != nil && life.Expires.Before(until)
		if dead { // nothing was served until the next one came
			if until.After(a.from) {
				told(m, "gap", a.at(*life.Expires), rail, a.at(until)-a.at(*life.Expires), railHigh, 0, "not served: "+life.Credential+" had expired")
			}
			until = *life.Expires
		}
		if until.Before(a.from) {
			continue
		}
		from := life.Issued
		if i > 0 { // a credential is served from when its predecessor is not
			if r := l.past.Lives[i-1].Replaced; r != nil {
				from = *r
			}
		}
		words := fmt.Sprintf("credential %s, issued %s", life.Credential, life.Issued.UTC().Format("15:04:05"))
		if life.Expires != nil {
			words += ", expires " + life.Expires.UTC().Format("15:04:05")
		}
		told(m, "life", a.at(from)+1, rail, a.at(until)-a.at(from)-1, railHigh, 2, words)
		if life.Replaced == nil && !dead && l.role.State.Served() {
			end := a.to
			if life.Expires != nil {
				end = *life.Expires
			}
			how := word("lifeleft")
			if l.role.State == admin.Failing {
				how = "lifewarn"
			}
			told(m, how, a.at(a.now), rail, a.at(end)-a.at(a.now), railHigh, 2, words)
			l.rest(m, a, end, rail)
		}
	}
	for _, o := range l.past.Outages {
		until, words := a.now, "lasts"
		if o.Until != nil {
			until, words = *o.Until, "until "+o.Until.UTC().Format("15:04:05")
		}
		if until.Before(a.from) {
			continue
		}
		told(m, "outage", a.at(o.From), rail+railHigh+3, max(a.at(until)-a.at(o.From), 3), 4, 2,
			fmt.Sprintf("%d failed renewals since %s, %s: %s", o.Failures, o.From.UTC().Format("15:04:05"), words, o.Error))
	}
	if next := l.role.Next; next != nil && next.After(a.now) && next.Before(a.to) && l.role.State != admin.Revoked {
		x := a.at(*next)
		m.begin("path", class("next"), is("d", fmt.Sprintf("M%.1f %.1fl-4.5 -7h9z", x, rail-1)))
		m.leaf("title", "next renewal "+next.UTC().Format("15:04:05"))
		m.end()
	}
}

// rest writes into the bar what is left, if there is room.
func (l lane) rest(m *markup, a axis, end time.Time, rail float64) {
	if l.role.Left == nil {
		return
	}
	text := screen.Span(*l.role.Left)
	if room := a.at(end) - a.at(a.now); room > 8*float64(len(text)) {
		m.leaf("text", text, class("nowtext"), is("x", number(a.at(a.now)+7)), is("y", number(rail+12.5)))
	}
}

func cut(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return text
}

// tally draws the number of answers to callers.
func (v view) tally(m *markup, a axis, y float64) {
	m.leaf("text", "answers", class("name"), is("x", "0"), is("y", number(y+24)))
	per := time.Duration(v.History.TallySpan * float64(time.Second))
	most := 0
	var seen []admin.Tally
	for _, t := range v.History.Tallies {
		if t.From.Add(per).After(a.from) {
			seen = append(seen, t)
			most = max(most, t.Granted+t.Denied+t.Failed)
		}
	}
	base := y + tallyHigh - 4
	rect(m, "rail", names, base, lineWide-names, 1, 0)
	if most == 0 {
		return
	}
	m.leaf("text", fmt.Sprintf("at most %d in %v min", most, per.Minutes()), is("x", "0"), is("y", number(y+39)))
	for _, t := range seen {
		x, wide, at := a.at(t.From), max(a.at(t.From.Add(per))-a.at(t.From)-1, 1.5), base
		for _, part := range []struct {
			how word
			n   int
		}{{"granted", t.Granted}, {"denied", t.Denied}, {"failed", t.Failed}} {
			if part.n == 0 {
				continue
			}
			high := max(float64(part.n)/float64(most)*(tallyHigh-12), 1.5)
			at -= high
			told(m, part.how, x, at, wide, high, 0.5, fmt.Sprintf("%d %s from %s", part.n, string(part.how), t.From.UTC().Format("15:04")))
		}
	}
}

// inWords is the time line for who cannot see it; the tables have the rest.
func (v view) inWords() string {
	text := fmt.Sprintf("Time line of %s.", string(v.span.name))
	for _, r := range v.Status.Roles {
		text += " " + r.Name + " is " + string(r.State)
		if r.State.Served() && r.Left != nil {
			text += ", with " + screen.Span(*r.Left) + " left"
		}
		text += "."
	}
	return text
}

func key(m *markup) {
	m.begin("ul", class("key"))
	for _, one := range []struct {
		how  word
		text string
	}{{"life", "served, one bar a credential"}, {"lifeleft", "life that is left"}, {"gap", "nothing to serve"}, {"outage", "renewals fail"}, {"denied", "denied answers"}, {"failed", "answers without a credential"}} {
		m.begin("li")
		m.begin("svg", is("width", "14"), is("height", "12"), is("aria-hidden", "true"))
		high := 12.0
		if one.how == "outage" {
			high = 4
		}
		rect(m, one.how, 0, 6-high/2, 14, high, 2)
		m.end()
		m.text(one.text)
		m.end()
	}
	m.begin("li")
	m.begin("svg", is("width", "14"), is("height", "12"), is("aria-hidden", "true"))
	m.begin("path", class("next"), is("d", "M7 10l-4.5 -7h9z"))
	m.end()
	m.end()
	m.text("next renewal")
	m.end()
	m.end()
}
