package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Duration is a time span such as "90s" or "1h30m".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%.40q is no time span", text)
	}
	*d = Duration(v)
	return nil
}

// String is the span as it is written in a file, without parts that are zero.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// SessionDuration is the life that is asked for: whole seconds, or Max.
type SessionDuration time.Duration

// Max is the longest life that the role allows, found by asking.
const Max SessionDuration = -1

// UnmarshalText reads a [Duration], or max.
func (d *SessionDuration) UnmarshalText(text []byte) error {
	if string(text) == "max" {
		*d = Max
		return nil
	}
	if err := (*Duration)(d).UnmarshalText(text); err != nil {
		return err
	}
	if time.Duration(*d)%time.Second != 0 {
		return fmt.Errorf("%.40q has a part of a second, which no upstream takes", text)
	}
	return nil
}

// String is that of [Duration], or max.
func (d SessionDuration) String() string {
	if d == Max {
		return "max"
	}
	return Duration(d).String()
}

// Timestamp is a moment, as RFC 3339 writes it.
type Timestamp struct{ time.Time }

// UnmarshalText reads RFC 3339.
func (t *Timestamp) UnmarshalText(text []byte) (err error) {
	if t.Time, err = time.Parse(time.RFC3339, string(text)); err != nil {
		return fmt.Errorf("%.40q is no time", text)
	}
	return nil
}

// Prefix is a range of addresses.
type Prefix struct{ netip.Prefix }

// UnmarshalText takes a range or one address.
func (p *Prefix) UnmarshalText(text []byte) error {
	one, err := netip.ParseAddr(string(text))
	if err == nil {
		p.Prefix = netip.PrefixFrom(one, one.BitLen())
	} else if p.Prefix, err = netip.ParsePrefix(string(text)); err != nil {
		return fmt.Errorf("%.60q is neither an address nor a range of them", text)
	}
	if p.Addr().Is4In6() || p.Addr().Zone() != "" {
		return fmt.Errorf("%.60q has a zone, or IPv4 within IPv6", text)
	}
	p.Prefix = p.Masked()
	return nil
}

// HostPort is a literal address to listen on, and its port.
type HostPort struct{ netip.AddrPort }

// UnmarshalText takes no names, no zones, no port 0, and no address that
// stands for many.
func (h *HostPort) UnmarshalText(text []byte) error {
	a, err := netip.ParseAddrPort(string(text))
	switch {
	case err != nil:
		return fmt.Errorf("%.60q is no IP address with a port", text)
	case a.Addr().Zone() != "" || a.Addr().Is4In6() || a.Port() == 0:
		return fmt.Errorf("%.60q has a zone, no port, or IPv4 within IPv6", text)
	case a.Addr().IsUnspecified() || a.Addr().IsMulticast():
		return fmt.Errorf("%.60q is not one address", text)
	}
	h.AddrPort = a
	return nil
}

// From names where a role's session comes from: a source, or another role. It
// may name several, of which the next is tried when one is down or refuses.
type From struct{ names []string }

// Each are the alternatives in their order, one name each.
func (f From) Each() []From {
	all := make([]From, len(f.names))
	for i := range f.names {
		all[i] = From{f.names[i : i+1]}
	}
	return all
}

func (f From) first() string {
	if len(f.names) == 0 {
		return ""
	}
	return f.names[0]
}

// Source is the source that the first alternative is, if it is one.
func (f From) Source() (name string, ok bool) { return strings.CutPrefix(f.first(), "source.") }

// Role is the role that the first alternative is, if it is one.
func (f From) Role() (name string, ok bool) { return strings.CutPrefix(f.first(), "role.") }

// String is the name as it is written, such as source.corp, or several with
// commas between them.
func (f From) String() string { return strings.Join(f.names, ", ") }

// mostAlternatives is how many names a From may have.
const mostAlternatives = 8

func (f *From) read(d *decoder, n *node, _ string) {
	items := []*node{n}
	if n.kind == unstable.Array {
		items = n.items
	}
	switch {
	case len(items) == 0:
		d.bad(n, "is empty", "write 'source.NAME' or 'role.NAME'")
	case len(items) > mostAlternatives:
		d.bad(n, fmt.Sprintf("has %d alternatives", len(items)), fmt.Sprintf("%d are the most", mostAlternatives))
		return
	}
	bad := len(d.faults)
	for _, item := range items {
		if !d.is(item, unstable.String, "'source.NAME' or 'role.NAME'") {
			continue
		}
		table, name, _ := strings.Cut(item.text, ".")
		switch {
		case table != "source" && table != "role" || name == "":
			d.bad(item, fmt.Sprintf("%.80q is neither a source nor a role", item.text), "write 'source.NAME' or 'role.NAME'")
		case slices.Contains(f.names, item.text):
			d.bad(item, "is there twice", "keep one of them")
		default:
			f.names = append(f.names, item.text)
		}
	}
	if len(d.faults) > bad {
		f.names = nil
	}
}

// A Ref says where a secret is: in a file, in an environment variable, or in a
// systemd credential. Exactly one of its fields is set.
type Ref struct {
	File       string `toml:"file" form:"path" read:"use"` // absolute once parsed
	Env        string `toml:"env" form:"env"`
	Credential string `toml:"credential" form:"credential"`
}

func (r *Ref) read(d *decoder, n *node, schema string) {
	if n.kind == unstable.String {
		d.bad(n, "is a secret and does not belong into this file", "put it into a file that only the daemon can read, and write { file = '…' }, { env = '…' } or { credential = '…' }; whoever could read this file knows it: replace it upstream")
		return
	}
	d.one(n, reflect.ValueOf(r).Elem(), schema)
}

// Text is a text that is no secret but may be kept with one: a literal, or a
// reference.
type Text struct {
	Literal string // "" where Ref is set
	Ref     *Ref
}

func (t *Text) read(d *decoder, n *node, schema string) {
	switch {
	case n.kind == unstable.Table:
		t.Ref = &Ref{}
		d.one(n, reflect.ValueOf(t.Ref).Elem(), schema)
	case !d.is(n, unstable.String, "the id in quotes, such as 'AKIA…', or a reference to it"):
	case len(n.text) > 128 || !accessKey.MatchString(n.text):
		d.bad(n, "is no access key id", "write the id, such as AKIA…, or a reference to it")
	default:
		t.Literal = n.text
	}
}

func (a *Assertion) read(d *decoder, n *node, schema string) {
	d.one(n, reflect.ValueOf(a).Elem(), schema)
}

// one reads a table with exactly one key.
func (d *decoder) one(n *node, v reflect.Value, schema string) {
	d.table(n, v, schema)
	var names []string
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag; d.listed(tag.Get("kinds")) {
			names = append(names, tag.Get("toml"))
		}
	}
	switch {
	case n.kind != unstable.Table || len(n.order) == 0 && !d.whole:
	case len(n.order) != 1:
		d.bad(n, fmt.Sprintf("has %d keys", len(n.order)), "write exactly one of "+strings.Join(names, ", "))
	case n.keys[n.order[0]].kind == unstable.String && n.keys[n.order[0]].text == "":
		d.bad(n.keys[n.order[0]], "is empty", "")
	}
}

// A shape is what a text must look like. Its texts are shown: a key that may
// hold a secret has a problem without %q.
type shape struct {
	*expression
	problem, hint string
}

// longest bounds the texts of shapes, in bytes. Counted inside of an
// expression, a length is a copy of the expression for each letter: megabytes
// at every start.
var longest = map[string]int{"name": 64, "word": 128, "region": 64, "external_id": 1224, "device": 15, "ingress": 15,
	"credential": 255, "line": 512, "some": 512, "saml_provider": 256}

var (
	accessKey = expr(`^[!#-\[\]-~]{3}[!#-\[\]-~]*$`)
	name      = expr(`^[\w+=,.@-]+$`)
)

// shapes are the forms that an expression can tell. All but name may be empty.
var shapes = map[string]shape{
	"name":        {name, "%.80q is no name", "write 1 to 64 letters, digits, and _+=,.@-"},
	"word":        {expr(`^[ -~]*$`), "%.80q does not stand in one line", "write up to 128 printable ASCII characters"},
	"user":        {expr(`^([^\s:/0-9][^\s:/]*|\d+[^\s:/\d][^\s:/]*)?$`), "%.80q is no name of a user or group", "write the name; a number belongs into uid"},
	"region":      {expr(`^[a-zA-Z0-9_-]*$`), "%.80q is no region", "write it like eu-central-1"},
	"instance":    {expr(`^(i-([0-9a-f]{8}|[0-9a-f]{17}))?$`), "%.80q is no instance id", "write i- and 17 hexadecimal digits"},
	"account":     {expr(`^(\d{12})?$`), "%.80q is no account id", "write 12 digits in quotes"},
	"external_id": {expr(`^([\w+=,.@:/-]{2,})?$`), "is no external id", "write 2 to 1224 letters, digits, and _+=,.@:/-"},
	"pod":         {expr(`^[^/]+/[^/]+$`), "%.80q is no service account", "write namespace/serviceaccount; * stands for any name"},
	"device":      {expr(`^[^\s/:*?\[\]]+$`), "%.80q is no device", "write one name of at most 15 characters, no pattern"},
	"ingress":     {expr(`^[^\s/:*?\[\]]*\*?$`), "%.80q is no device", "write one name of at most 15 characters, or the beginning of one and *, as in br-*"},
	"env":         {expr(`^([A-Za-z_][A-Za-z0-9_]*)?$`), "is no name of an environment variable", "write its name, not what it holds"},
	"credential":  {expr(`^([^/\s.][^/\s]*)?$`), "is no name of a systemd credential", "write the name that LoadCredential= of the unit gives it"},

	"line":  {expr(`^[ -~]*$`), "does not stand in one line", "write up to 512 printable ASCII characters"},
	"some":  {expr(`^[ -~]+$`), "is empty, or does not stand in one line", "write up to 512 printable ASCII characters"},
	"mount": {expr(`^([^\s/?#%]+(/[^\s/?#%]+)*)?$`), "is no path of a mount", "write it as vault lists it, without a slash at either end"},

	"trust_anchor":    {expr(`^arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:\d{12}:trust-anchor/[\w-]+$`), "is no ARN of a trust anchor", "write it like arn:aws:rolesanywhere:eu-central-1:111122223333:trust-anchor/ID"},
	"profile":         {expr(`^arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:\d{12}:profile/[\w-]+$`), "is no ARN of a profile", "write it like arn:aws:rolesanywhere:eu-central-1:111122223333:profile/ID"},
	"saml_provider":   {expr(`^(arn:[\w-]+:iam::\d{12}:saml-provider/[\w.-]+)?$`), "is no ARN of a SAML provider", "write it like arn:aws:iam::111122223333:saml-provider/NAME, or take it out"},
	"pool":            {expr(`^[a-z0-9-]+:[0-9a-zA-Z-]{1,40}$`), "is no id of an identity pool", "write it like eu-central-1:b97abbc1-0000-0000-0000-000000000000"},
	"service_account": {expr(`^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$`), "is no service account", "write namespace/name"},
	"google_provider": {expr(`^(//iam\.googleapis\.com/[\w./-]+)?$`), "is no provider of a workload identity pool", "write it like //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"},
	"pin":             {expr(`^sha256//?[A-Za-z0-9+/]+=$`), "is no pin", "write sha256/ and the 44 letters of base64 that curl --pinnedpubkey takes"},
	"spiffe":          {expr(`^(spiffe://[\w./-]+)?$`), "is no SPIFFE id", "write it like spiffe://example.org/hostrole"},
}

// isName reports whether a text may name a table or a role.
func isName(text string) bool { return len(text) <= longest["name"] && name.MatchString(text) }

// form checks a text and, of a path, returns what is absolute.
func form(kind, text, file string) (value, problem, hint string) {
	switch kind {
	case "path":
		if strings.ContainsFunc(text, unicode.IsControl) {
			return text, "is no path: it has a control character", ""
		}
		return absolute(text, file), "", ""
	case "socket":
		if text = strings.TrimPrefix(text, "unix://"); text == "" {
			return text, "is empty", "write the path of the socket"
		}
		return form("path", text, file)
	case "endpoint":
		problem, hint = endpoint(text)
	case "service":
		problem, hint = service(text)
	case "server":
		if problem, hint = endpoint(text); text == "" {
			problem = "is empty"
		}
		if problem != "" && !strings.HasPrefix(problem, "would") {
			hint = "write it like https://server.example.com"
		}
	case "proxy":
		problem, hint = proxy(text)
	case "session_name", "source_identity":
		problem, hint = template(text, sessionText, 64)
		if kind == "session_name" && text == "" || problem == "" && len(text) == 1 {
			problem, hint = "is too short", "write 2 to 64 characters, or take it out"
		}
	default:
		s := shapes[kind]
		if most := longest[kind]; s.expression == nil || s.MatchString(text) && (most == 0 || len(text) <= most) {
			return text, "", ""
		}
		if problem = s.problem; strings.Contains(problem, "%") {
			problem = fmt.Sprintf(problem, text)
		}
		return text, problem, s.hint
	}
	return text, problem, hint
}

// absolute makes a path relative to the file that names it.
func absolute(path, file string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	path = filepath.Join(filepath.Dir(file), path)
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// program makes the first word of a command an absolute path.
func program(path, file string) (abs, problem, hint string) {
	if !strings.Contains(path, "/") {
		return path, "is no path of a program", "write the whole path: PATH is not searched"
	}
	return absolute(path, file), "", ""
}

// web reads a URL that is a server. Its errors have nothing of the URL, which
// may hold a password.
func web(text string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || !strings.Contains(" "+strings.Join(schemes, " ")+" ", " "+u.Scheme+" "):
		return nil, errors.New("is no URL with " + strings.Join(schemes, ", ") + " and a host")
	case u.User != nil:
		return nil, errors.New("has a user or a password, which does not belong into this file")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("is no URL of a server: it has a query or a fragment")
	}
	return u, nil
}

func endpoint(text string) (problem, hint string) {
	if text == "" {
		return "", ""
	}
	u, err := web(text, "https", "http")
	if err != nil {
		return err.Error(), "write it like https://sts.example.com"
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return "would send credentials over the network in the clear", "use https; http is for loopback addresses"
	}
	return "", ""
}

func proxy(text string) (problem, hint string) {
	if text == "none" || text == "env" {
		return "", ""
	}
	if _, err := web(text, "http", "https", "socks5"); err != nil {
		return err.Error(), "write none, a URL like http://proxy.example.com:3128, or env for HTTPS_PROXY in the environment of the daemon, which may hold a password"
	}
	return "", ""
}
