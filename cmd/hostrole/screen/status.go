package screen

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/hostrole/hostrole/agent/admin"
)

const (
	barWidth = 18
	// newest is how many answers to callers are shown.
	newest = 8
)

const (
	bold, red, yellow, plain = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
)

// Status is a status in lines of 80 columns.
func Status(s admin.Status, colour bool) string {
	t := &sheet{colour: colour}
	served := 0
	for _, r := range s.Roles {
		if r.State.Served() {
			served++
		}
	}
	name := strings.TrimSpace("hostrole " + Printable(s.Program))
	t.line("%s, process %d, up %s: %d of %d roles served", name, s.PID, Span(s.Time.Sub(s.Started).Seconds()), served, len(s.Roles))
	t.roles(s)
	t.listeners(s)
	t.troubles(s)
	t.clocks(s)
	t.callers(s)
	return t.b.String()
}

// A sheet is written from the top.
type sheet struct {
	b      strings.Builder
	colour bool
}

func (t *sheet) line(format string, args ...any) {
	t.b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

func (t *sheet) title(format string, args ...any) {
	t.b.WriteByte('\n')
	t.line("%s", t.paint(bold, fmt.Sprintf(format, args...)))
}

func (t *sheet) paint(how, text string) string {
	if !t.colour || how == "" {
		return text
	}
	return how + text + plain
}

// roleLine has 80 columns: role, credential, bar, what is left, next.
const roleLine = "%s %-8s %s %8s  %s"

func (t *sheet) roles(s admin.Status) {
	wide := 4
	for _, r := range s.Roles {
		wide = min(max(wide, len(r.Name)), 26)
	}
	t.title(roleLine, pad("ROLE", wide), "KEYS", pad("LIFE LEFT", barWidth+2), "HEADROOM", "NEXT RENEWAL")
	for _, r := range s.Roles {
		id := cmp.Or(r.Credential, "-")
		left, full := "-", 0
		switch {
		case r.Left != nil && r.Life != nil && *r.Life > 0:
			left, full = Span(*r.Left), int(*r.Left / *r.Life * barWidth + 0.5)
		case r.State == admin.OnDemand: // nobody has asked
		case r.State.Served():
			left, full = "endless", barWidth
		}
		full = min(max(full, 0), barWidth)
		bar := "[" + strings.Repeat("█", full) + strings.Repeat("·", barWidth-full) + "]"
		t.line(roleLine, pad(r.Name, wide), id, t.paint(shade(r.State), bar), left, t.next(r))
		t.trouble(r)
	}
}

func shade(s admin.State) string {
	switch s {
	case admin.Live, admin.OnDemand:
		return ""
	case admin.Failing, admin.Starting:
		return yellow
	}
	return red
}

func (t *sheet) next(r admin.Role) string {
	switch {
	case r.State == admin.Revoked:
		return "never"
	case r.State == admin.OnDemand:
		return "when asked"
	case r.NextIn == nil || *r.NextIn <= 0:
		return "now"
	}
	return "in " + Span(*r.NextIn)
}

// trouble says in words what a line cannot.
func (t *sheet) trouble(r admin.Role) {
	say := func(format string, args ...any) {
		t.line("  %s", t.paint(shade(r.State), Wrapped(fmt.Sprintf(format, args...), 2)))
	}
	since := ""
	if r.Since != nil && r.Failures > 0 {
		since = fmt.Sprintf("%d failed attempts since %s: ", r.Failures, r.Since.UTC().Format("15:04:05Z"))
		if r.Failures == 1 {
			since = ""
		}
	}
	if c := r.Callers; c != nil && c.Sessions > 0 {
		say("%d sessions of single callers, told apart by %s, %d of them served; the line is of the worst", c.Sessions, strings.Join(c.Facts, " and "), c.Served)
	}
	switch r.State {
	case admin.Failing:
		say("served, and not renewed: %s%s", since, r.Error)
	case admin.Starting:
		say("not served yet: the first attempt is under way")
	case admin.Down:
		say("NOT SERVED: %s%s", since, cmp.Or(r.Error, "the credential has expired, and an attempt is under way"))
	case admin.Refused:
		say("NOT SERVED: %s%s", since, r.Error)
	case admin.Revoked:
		say("NOT SERVED: an operator revoked it; `hostrole reload` serves it again")
	}
	if len(r.Others) > 0 {
		say("one session with %s", strings.Join(r.Others, ", "))
	}
}

// On names the devices that a listener serves: the first, and how many more.
func On(l admin.Endpoint) string {
	switch n := len(l.Devices); n {
	case 0:
		return l.Ingress
	case 1:
		return l.Devices[0]
	default:
		return fmt.Sprintf("%s +%d", l.Devices[0], n-1)
	}
}

func (t *sheet) listeners(s admin.Status) {
	wide := 8
	for _, l := range s.Listeners {
		wide = min(max(wide, len(l.Name)), 16)
	}
	t.title("%s %-4s %-26s %s", pad("LISTENER", wide), "KIND", "ADDRESS", "STATE")
	trouble := map[string]string{}
	for _, a := range s.Addresses {
		trouble[a.Address] = a.Error
	}
	for _, l := range s.Listeners {
		host := strings.Trim(l.Address[:max(0, strings.LastIndexByte(l.Address, ':'))], "[]")
		state, how := "serving", ""
		if l.Ingress != "" {
			state += " on " + Printable(On(l))
		}
		switch {
		case l.Waits():
			state, how = "waits for a device "+l.Ingress, yellow
		case l.Error != "" && l.Serving:
			how = yellow
		case l.Error != "":
			state, how = "not served", red
		case !l.Serving:
			state, how = "not served; the log says why", red
		case trouble[host] != "":
			state, how = "the address is not on the host", red
		}
		t.line("%s %-4s %s %s", pad(l.Name, wide), l.Kind, pad(l.Address, 26), t.paint(how, state))
	}
	for _, l := range s.Listeners {
		if l.Error != "" {
			t.line("  %s", t.paint(red, Wrapped("listener "+l.Name+" is not served "+l.Error, 2)))
		}
	}
	for _, a := range s.Addresses {
		if a.Error != "" {
			t.line("  %s", t.paint(red, Wrapped(a.Error, 2)))
		}
	}
}

// troubles are what neither a role nor a listener tells.
func (t *sheet) troubles(s admin.Status) {
	for _, one := range s.Troubles {
		how, when := red, "since "+one.Time.UTC().Format("15:04:05Z")
		if one.Count > 0 {
			how, when = yellow, fmt.Sprintf("%d times, the last %s ago", one.Count, Span(max(0, s.Time.Sub(one.Time).Seconds())))
		}
		t.b.WriteByte('\n')
		t.line("%s", t.paint(how, Wrapped(strings.ToUpper(one.Kind)+", "+when+": "+one.Text, 0)))
	}
}

func (t *sheet) clocks(s admin.Status) {
	for _, r := range s.Roles {
		if r.Skew == 0 {
			continue
		}
		word := "behind"
		if r.Skew < 0 {
			word = "ahead of"
		}
		t.b.WriteByte('\n')
		t.line("%s", t.paint(yellow, Wrapped(fmt.Sprintf("This host's clock is %s %s that of the upstream of %s: that is allowed for, but set it.",
			Span(max(r.Skew, -r.Skew)), word, r.Name), 0)))
		return // one clock is one line
	}
}

func (t *sheet) callers(s admin.Status) {
	if len(s.Decisions) == 0 {
		return
	}
	t.title("%-8s %-30s %-20s %s", "ASKED", "CALLER", "ROLE", "ANSWER")
	for _, d := range s.Decisions[:min(newest, len(s.Decisions))] {
		answer, how := d.Verdict, ""
		if d.Verdict != "granted" {
			how = yellow
		}
		if d.Count > 1 {
			answer += fmt.Sprintf(" ×%d", d.Count)
		}
		t.line("%-8s %s %s %s", Span(max(0, s.Time.Sub(d.Time).Seconds())), pad(Caller(d.Caller), 30), pad(cmp.Or(d.Role, "its own"), 20), t.paint(how, answer))
	}
}

// Caller names one in few words, and where it asked.
func Caller(c admin.Caller) string {
	var who string
	switch {
	case c.Pod != "":
		who = "pod " + c.Pod
	case c.UID == nil:
		who = "unknown"
	case c.User != "":
		who = fmt.Sprintf("%s (%d)", c.User, *c.UID)
	default:
		who = fmt.Sprintf("uid %d", *c.UID)
	}
	switch c.Listener {
	case "":
	case admin.Listener:
		who += " by process"
	default:
		who += " on " + c.Listener
	}
	return Printable(who)
}
