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

// A way is how the session of a role is made.
type way int

const (
	assumed   way = iota // by STS, in a call that is signed with what the source or the role above gives
	federated            // by STS, in a call that has a token in place of a signature, and few parameters
	given                // by another service than STS
	passed               // by the source: its credential is the role's, without a call
)

// A use is one way in which a role is come by. What it inherits is filled in.
type use struct {
	name             string
	from             string // key path of the source at the beginning of the chain
	source           Source
	parent           *use // that it is assumed from; nil for a role from the source
	depth            int  // 1 for a role from the source
	way              way
	region, endpoint setting // of STS
	second, backup   setting // region and endpoint of the one that is asked in its place
	broken           bool    // it does not lead to a source: there is a fault about that
}

// aws tells whether AWS gives the role. Vault may have it from anybody.
func (u *use) aws() bool {
	at := u.endpoint.value
	if u.way == given {
		at = u.source.Endpoint
	}
	_, is := awsEndpoint(at)
	return is && (u.way != given || u.source.Kind != "vault")
}

// place is the region where the session is made, "" where that is not known.
func (u *use) place() setting {
	switch {
	case u.way != given:
		return u.region
	case u.source.Kind == "roles-anywhere":
		return setting{u.source.place(), u.from + ".trust_anchor_arn"}
	}
	return setting{u.source.place(), u.from + ".identity_pool_id"}
}

// fixed tells whether the role may be without an ARN.
func (u *use) fixed() bool {
	switch {
	case u.parent != nil:
	case u.source.Kind == "roles-anywhere" || u.source.Kind == "saml" || u.source.Kind == "cognito" && u.way == federated:
		return false
	case u.way == given || u.way == passed:
		return true
	}
	return !u.aws()
}

// idle are the keys of a role that would have no effect, why, and what to do.
func (u *use) idle() (keys, why, hint string) {
	const token, all = "external_id source_identity tags transitive_tags", "policy policy_arns external_id source_identity tags transitive_tags"
	switch kind := u.source.Kind; {
	case u.way == passed && kind == "instance":
		return all + " duration session_name", "without an arn the session is the instance's own", "take it out, or write the arn of a role to assume with what the instance has"
	case u.way == passed:
		return all + " duration session_name", "without an arn the program makes the session", "take it out, or write the arn of a role to assume with what the program gives"
	case u.way == federated && kind == "saml":
		return token + " session_name", "STS takes none with a SAML response", "take it out; name, tags and source identity are attributes of the response"
	case u.way == federated:
		return token, "STS takes none with a web identity", "take it out; tags and source identity are claims of the token"
	case u.way == given && kind == "roles-anywhere":
		keys = all + " region endpoint fallback_region fallback_endpoint"
		if !u.source.AcceptSessionName {
			keys += " session_name"
		}
		return keys, "IAM Roles Anywhere takes none", "take it out; the profile has policies, and says with accept_session_name in " + u.from + " whether there is a name"
	case u.way == given && kind == "vault":
		return all + " region endpoint fallback_region fallback_endpoint", "Vault takes none", "take it out; the Vault role has them"
	case u.way == given:
		return all + " region endpoint fallback_region fallback_endpoint session_name", "the enhanced flow takes none", "take it out; with flow = 'basic' in " + u.from + " there is a session name, and policies"
	}
	return "", "", ""
}

// wayFrom is how a role is made of what a source gives.
func wayFrom(s Source, arn bool) way {
	switch s.Kind {
	case "web-identity", "saml":
		return federated
	case "cognito":
		if s.Flow == "basic" {
			return federated
		}
		return given
	case "roles-anywhere", "vault":
		return given
	case "process", "instance":
		if !arn {
			return passed
		}
	}
	return assumed
}

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
		if asksSTS(s.Kind) {
			s.Region, s.Endpoint = cmp.Or(s.Region, up.Region), cmp.Or(s.Endpoint, up.Endpoint)
		}
		if s.Kind != "instance" { // which is no further than the next hop
			s.CAFile, s.Proxy = cmp.Or(s.CAFile, up.CAFile), cmp.Or(s.Proxy, up.Proxy)
		}
		k.c.Sources[name] = s
	}
}

// resolve follows from, and returns a use for each alternative; below are the
// roles that it has come from.
func (k *checker) resolve(name string, below []string) []*use {
	if slices.Contains(below, name) {
		circle := append(slices.Clone(below[slices.Index(below, name):]), name)
		k.fault("role."+name+".from", "goes in a circle: "+strings.Join(circle, " from "), "one of them must be from a source")
		return nil
	}
	if uses, done := k.uses[name]; done {
		return uses
	}
	r := k.c.Roles[name]
	var uses []*use
	for i, from := range r.From.Each() {
		at := "role." + name + ".from"
		if len(r.From.names) > 1 {
			at = fmt.Sprintf("%s[%d]", at, i)
		}
		uses = append(uses, k.use(name, from, at, append(slices.Clone(below), name)))
	}
	if len(uses) == 0 {
		uses = append(uses, &use{name: name, broken: true})
	}
	k.uses[name] = uses
	return uses
}

// use is what becomes of one alternative, which stands at from.
func (k *checker) use(name string, alternative From, from string, below []string) *use {
	r, at := k.c.Roles[name], "role."+name
	u := &use{name: name}
	above, isRole := alternative.Role()
	source, isSource := alternative.Source()
	_, hasRole := k.c.Roles[above]
	s, hasSource := k.c.Sources[source]
	switch {
	case isRole && hasRole:
		parents := k.resolve(above, below)
		u.broken = len(parents) == 0
		for i, p := range parents {
			if u.broken, u.depth = u.broken || p.broken, max(u.depth, p.depth+1); i == 0 {
				u.parent, u.from, u.source, u.region, u.endpoint = p, p.from, p.source, p.region, p.endpoint
				u.second, u.backup = p.second, p.backup
			}
		}
	case isSource && hasSource:
		u.from, u.source, u.depth = "source."+source, s, 1
		u.broken = s.Kind == "" || k.spoilt[u.from+".kind"] || k.spoilt[u.from+".endpoint"] || k.spoilt[u.from+".flow"] || k.spoilt["upstream.endpoint"]
		u.way = wayFrom(s, r.ARN != "" || k.spoilt[at+".arn"])
		u.region, u.endpoint = setting{k.c.Upstream.Region, "upstream.region"}, setting{k.c.Upstream.Endpoint, "upstream.endpoint"}
		u.second, u.backup = setting{k.c.Upstream.FallbackRegion, "upstream.fallback_region"}, setting{k.c.Upstream.FallbackEndpoint, "upstream.fallback_endpoint"}
		if asksSTS(s.Kind) {
			u.second, u.backup = setting{s.FallbackRegion, u.from + ".fallback_region"}.or(u.second), setting{s.FallbackEndpoint, u.from + ".fallback_endpoint"}.or(u.backup)
			u.region, u.endpoint = setting{s.Region, u.from + ".region"}.or(u.region), setting{s.Endpoint, u.from + ".endpoint"}.or(u.endpoint)
		} else {
			u.region = u.region.or(setting{s.place(), u.from})
		}
	default:
		u.broken = true
		switch {
		case isRole:
			k.dangling(from, "role", above)
		case isSource:
			k.dangling(from, "source", source)
		}
	}
	u.broken = u.broken || k.spoilt[at+".endpoint"]
	u.region = setting{r.Region, at + ".region"}.or(u.region)
	u.endpoint = setting{r.Endpoint, at + ".endpoint"}.or(u.endpoint)
	u.second = setting{r.FallbackRegion, at + ".fallback_region"}.or(u.second)
	u.backup = setting{r.FallbackEndpoint, at + ".fallback_endpoint"}.or(u.backup)
	if u.depth == mostRoles+1 {
		k.fault(from, fmt.Sprintf("is a chain of %d roles", u.depth), fmt.Sprintf("%d are the most: take this one from a role that is nearer to the source", mostRoles))
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
		for _, from := range r.From.Each() {
			if s, ok := from.Source(); ok {
				used[s] = true
			}
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
		k.source(at, &s)
	}
}

func (k *checker) roles() {
	used := map[string]bool{}
	for _, r := range k.c.Roles {
		for _, from := range r.From.Each() {
			if parent, ok := from.Role(); ok {
				used[parent] = true
			}
		}
	}
	for _, rule := range k.c.Allow {
		for _, name := range rule.Roles {
			used[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.c.Roles)) {
		r, at := k.c.Roles[name], "role."+name
		k.name(at, name)
		if !used[name] {
			k.warn(at, "is not used: no rule gives it, and no role is from it", "name it in the roles of an [[allow]], or take it out")
		}
		k.tags(at, r)
		for _, u := range k.uses[name] {
			k.arns(at, r, u)
			if !u.broken {
				k.region(at, u)
				k.fallback(u)
				k.session(at, r, u)
			}
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
	m, place := role.FindStringSubmatch(r.ARN), u.place()
	switch {
	case r.ARN == "":
		if !u.broken && !u.fixed() && !k.spoilt[at+".arn"] {
			k.fault(at+".arn", "is missing", "write arn = 'arn:aws:iam::ACCOUNT:role/NAME': only a program, or a server that is not AWS's, fixes the role by itself")
		}
	case strings.Contains(r.ARN, ":assumed-role/"):
		k.fault(at+".arn", "is the ARN of a session", "write that of its role, like arn:aws:iam::111122223333:role/NAME")
	case m == nil || len(r.ARN) > mostARN:
		k.fault(at+".arn", "is no ARN of a role", "write it like arn:aws:iam::111122223333:role/NAME")
	case role == awsRole && awsRegion.MatchString(place.value) && m[1] != partition(place.value):
		k.fault(at+".arn", fmt.Sprintf("is in partition %s, and region %s in %s", m[1], place.value, partition(place.value)), "correct it, or "+place.at+": there is no way between partitions")
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
	if u.way == given || u.way == passed {
		return
	}
	named, aws := awsEndpoint(u.endpoint.value)
	region := u.region.value
	switch {
	case region == "" && (aws || u.way != federated):
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
	keys, why, hint := u.idle()
	for key, is := range map[string]bool{
		"duration":        k.c.index.has(at + ".duration"),
		"session_name":    k.c.index.has(at + ".session_name"),
		"policy":          r.Policy != nil && r.Policy.File != "",
		"policy_arns":     len(r.PolicyARNs) > 0,
		"external_id":     r.ExternalID != "",
		"source_identity": r.SourceIdentity != "",
		"tags":            len(r.Tags) > 0,
		"transitive_tags": len(r.TransitiveTags) > 0,
		"region":          r.Region != "",
		"endpoint":        r.Endpoint != "",

		"fallback_region":   r.FallbackRegion != "",
		"fallback_endpoint": r.FallbackEndpoint != "",
	} {
		if is && slices.Contains(strings.Fields(keys), key) {
			k.fault(at+"."+key, "would have no effect: "+why, hint)
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
	case k.spoilt[at+".duration"] || u.way == passed:
	case r.Duration == Max && (u.way == given || len(r.From.Each()) > 1):
		k.fault(at+".duration", "max is for a session that STS gives, from one source or role", "write a time span, such as '1h'")
	case r.Duration == Max:
	case u.way == given && u.source.Kind == "cognito":
		if d != time.Hour {
			k.fault(at+".duration", fmt.Sprintf("%v cannot be had: a session of the enhanced flow lasts 1h", r.Duration), "take it out, or write flow = 'basic' in "+u.from)
		}
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
