package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A setting is a value and the key that it is from.
type setting struct{ value, at string }

func (s setting) or(t setting) setting {
	if s.value != "" {
		return s
	}
	return t
}

// A use is how a role is come by. What it inherits is filled in.
type use struct {
	name             string
	kind             string // of the source at the beginning of the chain
	parent           *use   // that it is assumed from; nil for a role from the source
	depth            int    // 1 for a role from the source
	region, endpoint setting
	passes           bool // a program's credential is the role's, without a call
	open             bool // while it is resolved
	broken           bool // the chain does not lead to a source: there is a fault about that
}

// aws tells whether AWS gives the role.
func (u *use) aws() bool {
	_, is := awsEndpoint(u.endpoint.value)
	return is
}

// federated tells whether a token is exchanged for the role, in a call that
// has no signature and few parameters.
func (u *use) federated() bool { return u.parent == nil && u.kind == "web-identity" }

// mostRoles is how long a chain may be.
const mostRoles = 4

// inherit resolves the roles, and fills in what the sources have from the
// upstream.
func (k *checker) inherit() {
	for _, name := range slices.Sorted(maps.Keys(k.c.Roles)) {
		k.resolve(name, nil)
	}
	up := &k.c.Upstream
	for name, s := range k.c.Sources {
		s.Region, s.Endpoint = cmp.Or(s.Region, up.Region), cmp.Or(s.Endpoint, up.Endpoint)
		s.CAFile, s.Proxy = cmp.Or(s.CAFile, up.CAFile), cmp.Or(s.Proxy, up.Proxy)
		k.c.Sources[name] = s
	}
}

// resolve follows from; below are the roles that it has come from.
func (k *checker) resolve(name string, below []string) *use {
	if u := k.uses[name]; u != nil {
		if u.open {
			circle := append(below[slices.Index(below, name):], name)
			k.fault("role."+name+".from", "goes in a circle: "+strings.Join(circle, " from "), "one of them must be from a source")
			u.broken = true
		}
		return u
	}
	r, at := k.c.Roles[name], "role."+name
	u := &use{name: name, open: true}
	k.uses[name] = u
	above, isRole := r.From.Role()
	source, isSource := r.From.Source()
	_, hasRole := k.c.Roles[above]
	s, hasSource := k.c.Sources[source]
	switch {
	case isRole && hasRole:
		u.parent = k.resolve(above, append(below, name))
		u.broken = u.broken || u.parent.broken
		u.kind, u.depth, u.region, u.endpoint = u.parent.kind, u.parent.depth+1, u.parent.region, u.parent.endpoint
	case isSource && hasSource:
		from := "source." + source
		u.broken = s.Kind == "" || k.spoilt[from+".kind"] || k.spoilt[from+".endpoint"] || k.spoilt["upstream.endpoint"]
		u.kind, u.depth = s.Kind, 1
		u.region = setting{s.Region, from + ".region"}.or(setting{k.c.Upstream.Region, "upstream.region"})
		u.endpoint = setting{s.Endpoint, from + ".endpoint"}.or(setting{k.c.Upstream.Endpoint, "upstream.endpoint"})
	default:
		u.broken = true
		switch {
		case isRole:
			k.dangling(at+".from", "role", above)
		case isSource:
			k.dangling(at+".from", "source", source)
		}
	}
	u.open, u.broken = false, u.broken || k.spoilt[at+".endpoint"]
	u.passes = u.parent == nil && u.kind == "process" && r.ARN == "" && !k.spoilt[at+".arn"]
	u.region = setting{r.Region, at + ".region"}.or(u.region)
	u.endpoint = setting{r.Endpoint, at + ".endpoint"}.or(u.endpoint)
	if u.depth == mostRoles+1 {
		k.fault(at+".from", fmt.Sprintf("is a chain of %d roles", u.depth), fmt.Sprintf("%d are the most: take this one from a role that is nearer to the source", mostRoles))
	}
	return u
}

// dangling reports a reference to a table that is not there.
func (k *checker) dangling(at, table, name string) {
	names, others, other := slices.Sorted(maps.Keys(k.c.Roles)), slices.Sorted(maps.Keys(k.c.Sources)), "source."
	if table == "source" {
		names, others, other = others, names, "role."
	}
	hint := meant(name, names)
	switch {
	case slices.Contains(others, name):
		hint = fmt.Sprintf("%q was probably meant", other+name)
	case len(names) == 0 && k.spoilt[table]:
		return // it may be there
	case len(names) == 0:
		hint = fmt.Sprintf("write [%s.%s]", table, name)
	}
	k.fault(at, fmt.Sprintf("there is no %s %.80q", table, name), hint)
}

func (k *checker) sources() {
	used := map[string]bool{}
	for _, r := range k.c.Roles {
		if s, ok := r.From.Source(); ok {
			used[s] = true
		}
	}
	for name, s := range k.c.Sources {
		at := "source." + name
		k.name(at, name)
		if s.Kind == "static" && s.SessionToken == nil {
			k.warn(at, "is a long-term key, which works until somebody deletes it", "with a web identity, or a program that gets temporary keys, there is none on this host")
		}
		if !used[name] {
			k.warn(at, "is not used: no role is from it", "")
		}
	}
}

func (k *checker) roles() {
	used := map[string]bool{}
	for _, r := range k.c.Roles {
		if parent, ok := r.From.Role(); ok {
			used[parent] = true
		}
	}
	for _, rule := range k.c.Allow {
		for _, name := range rule.Roles {
			used[name] = true
		}
	}
	for name, r := range k.c.Roles {
		at := "role." + name
		k.name(at, name)
		if !used[name] {
			k.warn(at, "is not used: no rule gives it, and no role is from it", "name it in the roles of an [[allow]], or take it out")
		}
		k.tags(at, r)
		k.arns(at, r, k.uses[name])
		if u := k.uses[name]; !u.broken {
			k.region(at, u)
			k.session(at, r, u)
		}
		if r.Policy != nil && r.Policy.File == "" {
			r.Policy = nil // policy = {} is the default
			k.c.Roles[name] = r
		}
	}
}

// arns checks the role's own ARN and those of its policies.
func (k *checker) arns(at string, r Role, u *use) {
	role, policy := anyRole, anyPolicy
	if !u.broken && u.aws() {
		role, policy = awsRole, awsPolicy
	}
	m := role.FindStringSubmatch(r.ARN)
	switch {
	case r.ARN == "":
		if !u.broken && u.aws() && !u.passes && !k.spoilt[at+".arn"] {
			k.fault(at+".arn", "is missing", "write arn = 'arn:aws:iam::ACCOUNT:role/NAME': only a program, or a server that is not AWS's, fixes the role by itself")
		}
	case strings.Contains(r.ARN, ":assumed-role/"):
		k.fault(at+".arn", "is the ARN of a session", "write that of its role, like arn:aws:iam::111122223333:role/NAME")
	case m == nil || len(r.ARN) > mostARN:
		k.fault(at+".arn", "is no ARN of a role", "write it like arn:aws:iam::111122223333:role/NAME")
	case role == awsRole && awsRegion.MatchString(u.region.value) && m[1] != partition(u.region.value):
		k.fault(at+".arn", fmt.Sprintf("is in partition %s, and region %s in %s", m[1], u.region.value, partition(u.region.value)), "correct it, or "+u.region.at+": there is no way between partitions")
	}
	if len(r.PolicyARNs) > 10 {
		k.fault(at+".policy_arns", fmt.Sprintf("has %d policies", len(r.PolicyARNs)), "STS takes 10")
	}
	for i, arn := range r.PolicyARNs {
		p, at := policy.FindStringSubmatch(arn), fmt.Sprintf("%s.policy_arns[%d]", at, i)
		switch {
		case k.spoilt[at]:
		case p == nil || len(arn) > mostARN:
			k.fault(at, "is no ARN of a policy", "write it like arn:aws:iam::111122223333:policy/NAME")
		case role == awsRole && m != nil && (p[1] != m[1] || p[2] != m[2] && p[2] != "aws"):
			k.fault(at, "is not in the account of the role", "a session policy is in the role's own account, or AWS's own")
		}
	}
}

// region checks the region of the calls for a role.
func (k *checker) region(at string, u *use) {
	if u.passes {
		return
	}
	named, aws := awsEndpoint(u.endpoint.value)
	region := u.region.value
	switch {
	case region == "" && (aws || !u.federated()):
		if !k.spoilt["upstream.region"] && !k.spoilt[at+".region"] { // else it may be there
			k.fault("upstream.region", "is missing", "write the region whose STS is asked, such as 'eu-central-1': there is no default")
		}
	case region == "" || !aws:
	case !awsRegion.MatchString(region) && awsRegion.MatchString(strings.TrimRight(region, "abcdefghijklmnopqrstuvwxyz")):
		k.fault(u.region.at, fmt.Sprintf("%q is a zone", region), fmt.Sprintf("write its region: %q", strings.TrimRight(region, "abcdefghijklmnopqrstuvwxyz")))
	case !awsRegion.MatchString(region):
		k.fault(u.region.at, fmt.Sprintf("%q is no region of AWS", region), "write it like eu-central-1")
	case named != "" && named != region:
		k.fault(u.endpoint.at, fmt.Sprintf("is in region %s, and %s is %s", named, u.region.at, region), "correct one of them: AWS takes no request that is signed for another region")
	}
}

// session checks what the upstream of a role can give.
func (k *checker) session(at string, r Role, u *use) {
	for _, s := range []struct {
		key       string
		is, token bool // token: that of a web identity says it
	}{
		{"duration", k.c.index.has(at + ".duration"), false},
		{"session_name", k.c.index.has(at + ".session_name"), false},
		{"policy", r.Policy != nil && r.Policy.File != "", false},
		{"policy_arns", len(r.PolicyARNs) > 0, false},
		{"external_id", r.ExternalID != "", true},
		{"source_identity", r.SourceIdentity != "", true},
		{"tags", len(r.Tags) > 0, true},
		{"transitive_tags", len(r.TransitiveTags) > 0, true},
	} {
		switch {
		case s.is && u.passes:
			k.fault(at+"."+s.key, "would have no effect: without an arn the program makes the session", "take it out, or write the arn of a role to assume with what the program gives")
		case s.is && s.token && u.federated():
			k.fault(at+"."+s.key, "would have no effect: STS takes none with a web identity", "take it out; tags and source identity are claims of the token")
		}
	}
	for p := u.parent; p != nil; p = p.parent {
		above := k.c.Roles[p.name]
		for _, key := range above.TransitiveTags {
			for own := range r.Tags {
				if strings.EqualFold(own, key) {
					k.fault(at+".tags."+own, fmt.Sprintf("is passed on by role.%s, and STS takes no second one", p.name), "take it out here, or out of transitive_tags there")
				}
			}
		}
		if s := above.SourceIdentity; s != "" && r.SourceIdentity != "" && (s != r.SourceIdentity || strings.Contains(s, "{role}")) && !k.spoilt[at+".source_identity"] {
			k.fault(at+".source_identity", fmt.Sprintf("is not that of role.%s, and cannot change along a chain", p.name), "write it at the first role only")
		}
	}
	switch d := time.Duration(r.Duration); {
	case k.spoilt[at+".duration"] || u.passes:
	case u.aws() && d < 15*time.Minute:
		k.fault(at+".duration", fmt.Sprintf("%v is too short for AWS", r.Duration), "write '15m' or more")
	case u.aws() && u.parent != nil && d > time.Hour:
		k.fault(at+".duration", fmt.Sprintf("%v is too long for a chain: AWS gives a role from a role 1h", r.Duration), "write '1h' or less")
	case u.aws() && d > 12*time.Hour:
		k.fault(at+".duration", fmt.Sprintf("%v is too long for AWS", r.Duration), "write '12h' or less, and no more than the role's own maximum")
	case d < 40*time.Minute:
		k.warn(at+".duration", "is short: half of it is left at its renewal, and some SDKs want 20m", "write '40m' or more")
	}
}

// tags checks session tags, whose limits all servers have from AWS.
func (k *checker) tags(at string, r Role) {
	if len(r.Tags) > 50 {
		k.fault(at+".tags", fmt.Sprintf("has %d tags", len(r.Tags)), "STS takes 50")
	}
	keys := slices.Sorted(maps.Keys(r.Tags))
	seen := map[string]string{}
	for _, key := range keys {
		at, lower := at+".tags."+key, strings.ToLower(key)
		switch first, twice := seen[lower]; {
		case !tagKey.MatchString(key), utf8.RuneCountInString(key) > 128:
			k.fault(at, "is no key of a tag", "write 1 to 128 "+tagText.hint)
		case strings.HasPrefix(lower, "aws:"):
			k.fault(at, "begins with aws:, which is AWS's own", "write another key")
		case twice:
			k.fault(at, fmt.Sprintf("is %q in other letters", first), "STS does not tell them apart: keep one of them")
		case !k.spoilt[at]:
			if problem, hint := template(r.Tags[key], tagText, 256); problem != "" {
				k.fault(at, problem, hint)
			}
		}
		seen[lower] = key
	}
	for i, key := range r.TransitiveTags {
		at := fmt.Sprintf("%s.transitive_tags[%d]", at, i)
		switch _, is := r.Tags[key]; {
		case k.spoilt[at]:
		case !is:
			k.fault(at, fmt.Sprintf("there is no tag %.128q", key), meant(key, keys))
		case slices.Index(r.TransitiveTags, key) < i:
			k.fault(at, "is there twice", "keep one of them")
		}
	}
}
