package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A checker looks at what concerns more than one key. It says nothing about a
// key that has a fault already.
type checker struct {
	d      *decoder
	c      *Config
	spoilt map[string]bool   // the key paths with faults, and the tables around them
	uses   map[string][]*use // by the names of roles: one for each alternative
}

// check completes c and adds what is wrong with it to the faults of d.
func check(d *decoder, c *Config) {
	k := &checker{d, c, map[string]bool{}, map[string][]*use{}}
	for _, f := range d.faults {
		k.spoil(f.Key)
	}
	if c.Version != 1 && !k.spoilt["version"] {
		k.fault("version", fmt.Sprintf("%d is not known to this version of hostrole", c.Version), "write version = 1")
	}
	if len(c.Roles) == 0 && !k.spoilt["role"] {
		k.fault("role", "there is none", "write [role.NAME] for each role that callers can have")
	}
	if len(c.Allow) == 0 && !k.spoilt["allow"] {
		k.fault("allow", "there is no rule, so that nobody could have a role", "write [[allow]] with user = ['NAME'] and roles = ['NAME']")
	}
	k.inherit()
	k.sources()
	k.roles()
	k.listeners()
	k.rules()
	k.sessions()
	k.admin()
	k.metadata()
}

func (k *checker) fault(at, problem, hint string) {
	k.d.faults = append(k.d.faults, k.c.Fault(at, problem, hint))
	k.spoil(at)
}

func (k *checker) warn(at, problem, hint string) {
	k.c.Warnings = append(k.c.Warnings, k.c.Fault(at, problem, hint))
}

func (k *checker) spoil(at string) {
	for at != "" && !k.spoilt[at] {
		k.spoilt[at] = true
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
}

// name checks the name of a table, which is served where a role has no ARN.
func (k *checker) name(at, text string) {
	if !isName(text) {
		k.fault(at, fmt.Sprintf(shapes["name"].problem, text), shapes["name"].hint)
	}
}

// defaultAddresses are where every SDK looks.
var defaultAddresses = map[string][]HostPort{
	"imds": {{netip.MustParseAddrPort("169.254.169.254:80")}},
	"ecs":  {{netip.MustParseAddrPort("169.254.170.2:80")}},
	"eks":  {{netip.MustParseAddrPort("169.254.170.23:80")}, {netip.MustParseAddrPort("[fd00:ec2::23]:80")}},
}

// bound is an address of a listener.
type bound struct {
	listener *Listener
	address  HostPort
}

func (k *checker) listeners() {
	if !k.c.index.has("listener") {
		var l Listener
		n := newTable("listener[0]", spot{}, implied)
		for key, text := range map[string]string{"name": "host", "kind": "imds"} {
			n.add(key, &node{kind: unstable.String, text: text})
		}
		(&decoder{}).table(n, reflect.ValueOf(&l).Elem(), "listener")
		k.c.Listeners = []Listener{l}
	}
	var all []bound
	names := map[string]string{}
	for i := range k.c.Listeners {
		l, at := &k.c.Listeners[i], fmt.Sprintf("listener[%d]", i)
		if l.Name != "" {
			k.unique(at, l.Name, names, "rules and logs need one of its own for each")
		}
		if k.spoilt[at+".kind"] || k.spoilt[at+".ingress"] {
			continue
		}
		if len(l.Address) == 0 && !k.spoilt[at+".address"] {
			l.Address = defaultAddresses[l.Kind]
		}
		for j, a := range l.Address {
			if item := fmt.Sprintf("%s.address[%d]", at, j); !k.spoilt[item] {
				k.address(at, item, bound{l, a}, all)
				all = append(all, bound{l, a})
			}
		}
		loopback := !slices.ContainsFunc(l.Address, func(a HostPort) bool { return !a.Addr().IsLoopback() })
		switch {
		case *l.ManageAddress && loopback && k.c.index.has(at+".manage_address"):
			k.warn(at+".manage_address", "has no effect: the host has its loopback addresses anyway", "take it out")
		case !*l.ManageAddress && k.c.index.has(at+".link"):
			k.warn(at+".link", "has no effect with manage_address = false", "take it out")
		case *l.ManageAddress && l.Link != "lo" && l.Link == *l.Ingress:
			k.warn(at+".ingress", fmt.Sprintf("is the link %q that carries the address: the listener is for callers behind it, not for those on this host", l.Link), "write 'lo' for callers on this host, whatever link has the address")
		}
	}
}

// unique reports a name that another table of the list has; names leads to
// those that were there before.
func (k *checker) unique(at, name string, names map[string]string, hint string) {
	first, twice := names[name]
	if !twice {
		names[name] = at
		return
	}
	here, there := k.c.index.find(at), k.c.index.find(first)
	where := fmt.Sprintf("on line %d", there.line)
	if here.file != there.file {
		where = fmt.Sprintf("in %s:%d", there.file, there.line)
	}
	k.fault(at+".name", fmt.Sprintf("%q is the name of the one %s already", name, where), hint)
}

// address checks one address of the listener at, and whether it can be beside
// those of others.
func (k *checker) address(at, item string, b bound, others []bound) {
	ingress, manage := *b.listener.Ingress, *b.listener.ManageAddress
	switch local := b.address.Addr().IsLoopback(); {
	case !local && ingress == "" && !k.spoilt[at+".ingress"]:
		k.fault(at+".ingress", fmt.Sprintf("is empty, and %v is no loopback address: every neighbour on the network could reach it", b.address), "write ingress = 'lo' for callers on this host, or the name of the bridge that it serves")
	case local && ingress != "" && ingress != "lo":
		k.fault(item, "is a loopback address, and no packet for it arrives on "+ingress, "write ingress = 'lo', or another address")
	case b.listener.Redirect && ingress == "*":
		k.fault(at+".ingress", "would redirect what arrives on every device", "write the beginning of the names of your bridges, as in br-*")
	case b.listener.Redirect && (local || b.address.Port() != 80):
		k.fault(item, "cannot be redirected: that is for port 80 of an address that is no loopback address", "take redirect = true out, or write port 80")
	}
	for _, o := range others {
		theirs := *o.listener.Ingress
		switch {
		case b.address == o.address && (ingress == theirs || ingress == "" || theirs == ""):
			k.fault(item, fmt.Sprintf("%v is that of listener %q already", b.address, o.listener.Name), "only one can have an address and an ingress")
		case b.address.Addr() == o.address.Addr() && !b.address.Addr().IsLoopback() && manage && *o.listener.ManageAddress && b.listener.Link != o.listener.Link && !k.spoilt[at+".link"]:
			k.fault(at+".link", fmt.Sprintf("%q is to carry %v, which listener %q puts on %q", b.listener.Link, b.address.Addr(), o.listener.Name, o.listener.Link), "write the same link in both, or manage_address = false in one of them")
		}
	}
}

// facts are the keys that say whom a rule means.
var facts = []string{"user", "uid", "group", "listener", "unit", "container", "image", "label", "pod", "source"}

func (k *checker) rules() {
	names := map[string]string{}
	var listeners []string
	for _, l := range k.c.Listeners {
		listeners = append(listeners, l.Name)
	}
	for i := range k.c.Allow {
		r, at := &k.c.Allow[i], fmt.Sprintf("allow[%d]", i)
		k.who(at, r, listeners)
		k.given(at, r)
		r.Name = cmp.Or(r.Name, fmt.Sprintf("rule %d", i+1))
		k.unique(at, r.Name, names, "write another: it tells which rule has decided")
		for j := range i {
			if before := &k.c.Allow[j]; before.covers(r) {
				k.warn(at, fmt.Sprintf("is never asked: %q before it takes all whom it means", before.Name), "put it before that one, or take it out")
				break
			}
		}
	}
}

// who checks whom a rule means.
func (k *checker) who(at string, r *Allow, listeners []string) {
	var said []string
	for _, f := range facts {
		if k.c.index.has(at + "." + f) {
			said = append(said, f)
		}
	}
	about := slices.DeleteFunc(slices.Clone(said), func(f string) bool { return f == "listener" })
	switch {
	case r.Any && len(about) > 0:
		k.fault(at+".any", "gives the roles to every caller, and "+strings.Join(about, " and ")+" to some", "keep one of the two")
	case !r.Any && len(said) == 0 && !k.spoilt[at]:
		k.fault(at, "means nobody", "write user, uid, group or listener, or any = true for every user of this host")
	}
	for j, uid := range r.UID {
		if uid == 65534 || uid == 65535 || uid == 1<<32-1 {
			k.fault(fmt.Sprintf("%s.uid[%d]", at, j), fmt.Sprintf("%d is what the kernel says of users that it cannot tell", uid), "run the program as a user of its own, and write that one")
		}
	}
	for j, u := range r.User {
		if u == "nobody" {
			k.warn(fmt.Sprintf("%s.user[%d]", at, j), "nobody is the user of many programs, and of those that the kernel cannot tell, who get nothing", "run the program as a user of its own, and write that one")
		}
	}
	for j, l := range r.Listener {
		if at := fmt.Sprintf("%s.listener[%d]", at, j); !slices.Contains(listeners, l) && !k.spoilt[at] && len(listeners) > 0 {
			k.fault(at, fmt.Sprintf("there is no listener %.80q", l), meant(l, listeners))
		}
	}
}

// given checks the roles that a rule gives.
func (k *checker) given(at string, r *Allow) {
	served := map[string]string{}
	for j, role := range r.Roles {
		at := fmt.Sprintf("%s.roles[%d]", at, j)
		def, is := k.c.Roles[role]
		if k.spoilt[at] || k.spoilt["role."+role+".arn"] {
			continue
		}
		if !is {
			k.dangling(at, "role", role)
			continue
		}
		name := cmp.Or(def.ARN[strings.LastIndexByte(def.ARN, '/')+1:], role)
		switch first, twice := served[name]; {
		case twice && first == role:
			k.fault(at, fmt.Sprintf("%q is there twice", role), "keep one of them")
		case twice:
			k.fault(at, fmt.Sprintf("is served as %q, as role %q is", name, first), "a caller asks by that name and could not have both: write a rule for each")
		default:
			served[name] = role
		}
	}
}

// covers tells whether r takes every caller whom the later rule means.
func (r *Allow) covers(later *Allow) bool {
	// A rule about users means processes of the host: those in containers and
	// pods are left to the rules that name them.
	host := len(r.User)+len(r.UID)+len(r.Group) > 0 && !r.inside()
	if host && later.inside() {
		return false
	}
	return !r.AuditOnly && within(r.User, later.User) && within(r.UID, later.UID) && within(r.Group, later.Group) && within(r.Listener, later.Listener) &&
		within(r.Unit, later.Unit) && within(r.Container, later.Container) &&
		within(r.Image, later.Image) && len(r.Label) == 0 && within(r.Pod, later.Pod) && within(r.Source, later.Source)
}

// inside tells whether a rule names what a container or pod has.
func (r *Allow) inside() bool {
	return len(r.Unit)+len(r.Container)+len(r.Image)+len(r.Label)+len(r.Pod) > 0
}

// within tells whether a fact is no narrower than the one of the later rule.
func within[T comparable](fact, later []T) bool {
	return len(fact) == 0 || len(later) > 0 && !slices.ContainsFunc(later, func(v T) bool { return !slices.Contains(fact, v) })
}

func (k *checker) admin() {
	if n := len(k.c.Admin.Socket); n > 107 {
		k.fault("admin.socket", fmt.Sprintf("has %d bytes", n), "the kernel takes 107 for the path of a socket")
	}
	if a, level := k.c.Audit, k.c.Log.Level; a.Required && a.File == "" && (level == "warn" || level == "error") {
		k.fault("audit.required", fmt.Sprintf("cannot be kept: with log.level = %q no record comes into the log", level), "write a file for [audit], or log.level = 'info'")
	}
	if m := k.c.Admin.Metrics; m != "" {
		if a, err := netip.ParseAddrPort(m); err != nil || a.Port() == 0 || a.Addr().Zone() != "" {
			k.fault("admin.metrics", fmt.Sprintf("%.60q is no IP address with a port", m), "write it like 127.0.0.1:9464")
		}
	}
}

var (
	metadataTag = expr(`^[\w+=.,:@-]+$`)
	leaf        = expr(`^[^/\x00-\x20\x7f]+(/[^/\x00-\x20\x7f]+)*$`)
)

func (k *checker) metadata() {
	m := &k.c.Metadata
	if m.UserData != nil && m.UserData.File == "" {
		m.UserData = nil
	}
	if m.Events != nil {
		for i, e := range m.Events.Scheduled {
			if at := fmt.Sprintf("metadata.events.scheduled[%d].not_after", i); !e.NotAfter.IsZero() && e.NotAfter.Before(e.NotBefore.Time) && !k.spoilt[at] {
				k.fault(at, "is before not_before", "")
			}
		}
	}
	region := setting{m.Region, "metadata.region"}.or(setting{k.c.Upstream.Region, "upstream.region"})
	if m.AvailabilityZone != "" && region.value != "" && !strings.HasPrefix(m.AvailabilityZone, region.value) {
		k.warn("metadata.availability_zone", "is no zone of region "+region.value, "some clients take the region from the zone: correct it, or "+region.at)
	}
	if region.value == "aws-global" {
		k.warn(region.at, "is no region that callers could use", "write metadata.region")
	}
	for key := range m.Tags {
		if len(key) > 128 || !metadataTag.MatchString(key) || key == "." || key == ".." || key == "_index" {
			k.fault("metadata.tags."+key, "is no key of a tag that has a path", "write 1 to 128 letters, digits and _+=.,:@-")
		}
	}
	for path := range m.Extra {
		at, parent := "metadata.extra."+path, ""
		for i, c := range path {
			if _, both := m.Extra[path[:i]]; c == '/' && both {
				parent = path[:i]
			}
		}
		switch {
		case !leaf.MatchString(path) || slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == "." || s == ".." }):
			k.fault(at, "is no path", "write names with one slash between them, like placement/rack")
		case path == "iam" || strings.HasPrefix(path, "iam/"):
			k.fault(at, "is served from the roles", "take it out: only rules give something below iam/")
		case parent != "":
			k.fault(at, fmt.Sprintf("is below %q, which has a value", parent), "a path is a value or a folder: change one of them")
		}
	}
}
