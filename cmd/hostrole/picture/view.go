package picture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
)

// again is how often the page looks, in seconds.
const again = 5

// shown bounds the rows of callers and of outages.
const shown = 16

// A span is how far the time line reaches back.
type span struct {
	name word
	back time.Duration
}

var spans = []span{{"1h", time.Hour}, {"6h", 6 * time.Hour}, {"24h", 24 * time.Hour}}

// A view is one page in the making.
type view struct {
	View
	span span
}

func (v view) write() *markup {
	every := again
	if v.Still {
		every = 0
	}
	m := head(v.title(), every)
	m.begin("main")
	v.top(m)
	if v.Trouble != "" {
		m.begin("section", class("alarm"), is("role", "alert"))
		m.leaf("h2", "There is no status to show")
		m.leaf("p", v.Trouble)
		m.end()
		return m
	}
	for _, one := range v.Status.Troubles {
		how := word("alarm")
		if one.Count > 0 {
			how = "alarm warn"
		}
		m.begin("section", class(how), is("role", "alert"))
		m.leaf("h2", cmp.Or(map[string]string{"audit": "The audit", "config": "The configuration", "handover": "The next process"}[one.Kind], "Requests"))
		m.leaf("p", one.Text)
		if one.Count > 0 {
			m.leaf("small", fmt.Sprintf("%d times, the last %s ago", one.Count, screen.Span(max(0, v.Status.Time.Sub(one.Time).Seconds()))))
		}
		m.end()
	}
	v.tiles(m)
	v.timeline(m)
	v.roles(m)
	v.callers(m)
	v.outages(m)
	v.listeners(m)
	m.begin("footer")
	m.text("No secret is on this page, and none can be: the daemon tells none. Times are UTC. It ends with the command that serves it.")
	return m
}

func (v view) served() (n int) {
	for _, r := range v.Status.Roles {
		if r.State.Served() {
			n++
		}
	}
	return n
}

// title says in a tab whether to look.
func (v view) title() string {
	if v.Trouble != "" {
		return "no answer · hostrole on " + v.Host
	}
	return fmt.Sprintf("%d of %d roles · hostrole on %s", v.served(), len(v.Status.Roles), v.Host)
}

func (v view) top(m *markup) {
	m.begin("header")
	m.begin("h1")
	m.text("hostrole ")
	m.leaf("span", "on "+v.Host)
	m.end()
	if v.Trouble == "" {
		m.leaf("p", strings.TrimPrefix(fmt.Sprintf("%s, process %d, up ", v.Status.Program, v.Status.PID), ", ")+screen.Span(v.Status.Time.Sub(v.Status.Started).Seconds()))
		m.begin("p", class("end"))
		m.text("as of ")
		m.leaf("time", v.Status.Time.UTC().Format("15:04:05"), is("datetime", v.Status.Time.UTC().Format(time.RFC3339)))
		if v.Still {
			m.text(", paused · ")
			m.leaf("a", "go on", link("?span="+v.span.name))
		} else {
			m.text(fmt.Sprintf(", again every %d s · ", again))
			m.leaf("a", "pause", link("?still&span="+v.span.name))
		}
		m.end()
	}
	m.end()
}

// tiles are what is to be seen at a glance.
func (v view) tiles(m *markup) {
	m.begin("ul", class("tiles"))
	tile := func(how word, big, small string) {
		m.begin("li", class(how))
		m.leaf("b", big)
		m.leaf("span", small)
		m.end()
	}
	all, served := len(v.Status.Roles), v.served()
	how, words := word("good"), "all roles are served"
	if served < all {
		how, words = "bad", strings.Join(v.names(func(r admin.Role) bool { return !r.State.Served() }), ", ")+": not served"
	}
	tile(how, fmt.Sprintf("%d of %d", served, all), words)

	how, big, words := word("good"), "endless", "no credential ever expires"
	var least *admin.Role
	for i, r := range v.Status.Roles {
		if r.State.Served() && r.Left != nil && (least == nil || *r.Left < *least.Left) {
			least = &v.Status.Roles[i]
		}
	}
	switch {
	case served == 0:
		how, big, words = "bad", "none", "outage headroom: nothing is served"
	case least != nil:
		big, words = screen.Span(*least.Left), "shortest outage headroom: "+least.Name
		if least.State == admin.Failing {
			how = "warn"
		}
	}
	tile(how, big, words)

	failing := v.names(func(r admin.Role) bool { return r.Failures > 0 })
	how, big, words = "good", "none failing", "every newest renewal worked"
	if len(failing) > 0 {
		how, big, words = "warn", fmt.Sprintf("%d failing", len(failing)), "renewals of "+strings.Join(failing, ", ")
	}
	tile(how, big, words)

	var sum admin.Tally
	for _, t := range v.History.Tallies {
		if v.Status.Time.Sub(t.From) <= time.Hour {
			sum.Granted, sum.Denied, sum.Failed = sum.Granted+t.Granted, sum.Denied+t.Denied, sum.Failed+t.Failed
		}
	}
	how = ""
	if sum.Failed > 0 {
		how = "warn"
	}
	tile(how, fmt.Sprintf("%d answers", sum.Granted+sum.Denied+sum.Failed), fmt.Sprintf("in the last hour: %d denied, %d without a credential", sum.Denied, sum.Failed))
	m.end()
}

func (v view) names(which func(admin.Role) bool) (names []string) {
	for _, r := range v.Status.Roles {
		if which(r) {
			names = append(names, r.Name)
		}
	}
	return names
}

func shade(s admin.State) word {
	switch s {
	case admin.Live:
		return "good"
	case admin.Failing, admin.Starting:
		return "warn"
	}
	return "bad"
}

// table begins a table in a section; end it with finish.
func table(m *markup, id word, title string, columns ...string) {
	m.begin("section", is("aria-labelledby", string(id)))
	m.leaf("h2", title, is("id", string(id)))
	m.begin("div", class("wide"))
	m.begin("table")
	m.leaf("caption", title)
	m.begin("thead")
	m.begin("tr")
	for _, c := range columns {
		m.leaf("th", c, is("scope", "col"))
	}
	m.end()
	m.end()
	m.begin("tbody")
}

func finish(m *markup) {
	for range 4 {
		m.end()
	}
}

func chip(m *markup, how word, text string) { m.leaf("span", text, class("chip "+how)) }

func (v view) roles(m *markup) {
	table(m, "roles", "Roles", "Role", "State", "Life left", "Headroom", "Next renewal", "From")
	for _, r := range v.Status.Roles {
		m.begin("tr")
		m.begin("th", is("scope", "row"))
		m.text(r.Name)
		m.leaf("small", cmp.Or(r.ARN, "served as "+r.ServedAs))
		m.end()
		m.begin("td")
		chip(m, shade(r.State), string(r.State))
		m.end()
		m.begin("td")
		meter(m, r)
		m.end()
		left, next := "none", "now"
		switch {
		case r.State == admin.Revoked:
			next = "never"
		case r.NextIn != nil && *r.NextIn > 0:
			next = "in " + screen.Span(*r.NextIn)
		}
		switch {
		case r.State.Served() && r.Left != nil:
			left = screen.Span(*r.Left)
		case r.State.Served():
			left = "endless"
		}
		m.leaf("td", left, class("num"))
		m.leaf("td", next, class("num"))
		m.begin("td")
		m.text(r.From)
		if r.Credential != "" {
			m.leaf("small", "credential "+r.Credential)
		}
		m.end()
		m.end()
		v.trouble1(m, r)
	}
	finish(m)
}

// trouble1 says in words what the row of a role cannot.
func (v view) trouble1(m *markup, r admin.Role) {
	words := ""
	switch {
	case r.State == admin.Revoked:
		words = "Not served: an operator revoked it; hostrole reload serves it again."
	case r.State == admin.Starting:
		words = "Not served yet: the first attempt is under way."
	case r.Error != "" && r.State == admin.Failing:
		words = "Served, and not renewed: " + r.Error
	case r.Error != "":
		words = "Not served: " + r.Error
	case r.State == admin.Down:
		words = "Not served: the credential has expired, and an attempt is under way."
	}
	if words == "" {
		return
	}
	if r.Failures > 1 && r.Since != nil {
		words += fmt.Sprintf(" (%d attempts since %s)", r.Failures, r.Since.UTC().Format("15:04:05"))
	}
	m.begin("tr", class("more"))
	m.begin("td", is("colspan", "6"))
	m.leaf("p", words, class(shade(r.State)))
	m.end()
	m.end()
}

// meter is the life of a credential as a bar.
func meter(m *markup, r admin.Role) {
	part := 0.0
	switch {
	case r.Left != nil && r.Life != nil && *r.Life > 0:
		part = min(max(*r.Left / *r.Life, 0), 1)
	case r.State.Served():
		part = 1
	}
	m.begin("svg", class("meter"), is("viewBox", "0 0 150 8"), is("role", "img"), is("aria-label", fmt.Sprintf("%.0f %% of its life is left", 100*part)))
	rect(m, "rail", 0, 0, 150, 8, 4)
	if part > 0 {
		how := word("life")
		if r.State == admin.Failing {
			how = "denied"
		}
		rect(m, how, 0, 0, max(150*part, 4), 8, 4)
	}
	m.end()
}

func (v view) outages(m *markup) {
	type row struct {
		role string
		admin.Outage
	}
	var rows []row
	for _, p := range v.History.Roles {
		for _, o := range p.Outages {
			rows = append(rows, row{p.Role, o})
		}
	}
	if len(rows) == 0 {
		return
	}
	slices.SortStableFunc(rows, func(a, b row) int { return b.From.Compare(a.From) })
	table(m, "outages", "Failed renewals", "Role", "From", "Until", "Attempts", "Last error")
	for _, r := range rows[:min(len(rows), shown)] {
		m.begin("tr")
		m.leaf("th", r.role, is("scope", "row"))
		m.leaf("td", v.clock(r.From), class("num"))
		if r.Until == nil {
			m.begin("td")
			chip(m, "bad", "lasts")
			m.end()
		} else {
			m.leaf("td", v.clock(*r.Until), class("num"))
		}
		m.leaf("td", fmt.Sprint(r.Failures), class("num"))
		m.leaf("td", r.Error)
		m.end()
	}
	finish(m)
}

// clock is a time of the day; with the day, if it is another.
func (v view) clock(t time.Time) string {
	if t = t.UTC(); t.Format(time.DateOnly) != v.Status.Time.UTC().Format(time.DateOnly) {
		return t.Format("2006-01-02 15:04")
	}
	return t.Format("15:04:05")
}

func (v view) callers(m *markup) {
	table(m, "callers", "Callers", "Caller", "Where", "Role", "Rule", "Answer", "Last")
	for _, d := range v.Status.Decisions[:min(len(v.Status.Decisions), shown)] {
		m.begin("tr")
		m.begin("th", is("scope", "row"))
		who := d.Caller
		who.Listener = "" // has a column
		m.text(screen.Caller(who))
		if where := cmp.Or(d.Caller.Unit, d.Caller.Container); where != "" && d.Caller.Pod == "" {
			m.leaf("small", where)
		}
		m.end()
		m.leaf("td", cmp.Or(d.Caller.Listener, d.Endpoint))
		m.leaf("td", cmp.Or(d.Role, "its own"))
		m.leaf("td", cmp.Or(d.Rule, "none matches"))
		m.begin("td")
		how := word("warn")
		switch d.Verdict {
		case "granted":
			how = "good"
		case "refused", "not ready":
			how = "bad"
		}
		chip(m, how, d.Verdict)
		if d.Count > 1 {
			m.text(fmt.Sprintf(" × %d", d.Count))
		}
		m.end()
		m.leaf("td", screen.Span(max(0, v.Status.Time.Sub(d.Time).Seconds()))+" ago", class("num"))
		m.end()
	}
	if len(v.Status.Decisions) == 0 {
		m.begin("tr")
		m.leaf("td", "Nobody has asked yet.", is("colspan", "6"))
		m.end()
	}
	finish(m)
}

func (v view) listeners(m *markup) {
	trouble := map[string]string{}
	for _, a := range v.Status.Addresses {
		trouble[a.Address] = a.Error
	}
	table(m, "listeners", "Listeners", "Name", "Protocol", "Address", "Device", "State")
	for _, l := range v.Status.Listeners {
		host := strings.Trim(l.Address[:max(0, strings.LastIndexByte(l.Address, ':'))], "[]")
		m.begin("tr")
		m.leaf("th", l.Name, is("scope", "row"))
		m.leaf("td", l.Kind)
		m.leaf("td", l.Address, class("num"))
		m.leaf("td", cmp.Or(screen.On(l), "any"))
		m.begin("td")
		switch {
		case l.Waits():
			chip(m, "warn", "waits")
			m.leaf("small", "There is no such device yet.")
		case l.Error != "":
			if l.Serving {
				chip(m, "warn", "served in part")
			} else {
				chip(m, "bad", "not served")
			}
			m.leaf("small", l.Error)
		case !l.Serving:
			chip(m, "bad", "not served")
			m.leaf("small", "The log says why.")
		case trouble[host] != "":
			chip(m, "bad", "no address")
			m.leaf("small", trouble[host])
		default:
			chip(m, "good", "serving")
		}
		m.end()
		m.end()
	}
	finish(m)
}
