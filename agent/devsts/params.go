package devsts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Limits of the service model.
const (
	maxSession     = 12 * time.Hour
	maxTags        = 50
	maxTokenSize   = 4096 // bytes of a session token
	maxPolicy      = 2048 // characters of all session policies of a call
	maxPolicyARNs  = 10
	defaultSession = time.Hour
)

var (
	accountID   = pattern(`[0-9]{12}`)
	namePattern = pattern(`[\w+=,.@-]*`)
	idPattern   = pattern(`[\w+=,.@:\/-]*`)
	arnPattern  = pattern(`[\x{9}\x{A}\x{D}\x{20}-\x{7E}\x{85}\x{A0}-\x{D7FF}\x{E000}-\x{FFFD}\x{10000}-\x{10FFFF}]+`)
	polPattern  = pattern(`[\x{9}\x{A}\x{D}\x{20}-\x{FF}]+`)
	tagPattern  = pattern(`[\p{L}\p{Z}\p{N}_.:/=+\-@]+`)
	tagValue    = pattern(`[\p{L}\p{Z}\p{N}_.:/=+\-@]*`)
	anything    = pattern(`(?s).*`)
)

// An expression is compiled when it is first asked: a daemon carries this
// package for its demo alone, and should not pay for it.
type expression func() *regexp.Regexp

// MatchString is that of the expression.
func (e expression) MatchString(s string) bool { return e().MatchString(s) }

func pattern(p string) expression {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?:` + p + `)$`) })
}

// A request is one call while it is being answered.
type request struct {
	r      *http.Request
	id     string
	now    time.Time
	body   []byte
	form   map[string]string
	names  []string // of form, sorted
	caller principal

	used   map[string]bool // names that the action knows
	faults []string        // violations found so far
}

// read takes the body in. A body that is no form has no parameters.
func (q *request) read(w http.ResponseWriter) *refusal {
	q.form, q.used = map[string]string{}, map[string]bool{"Action": true, "Version": true}
	var err error
	if q.body, err = io.ReadAll(http.MaxBytesReader(w, q.r.Body, maxBody)); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return &refusal{413, "RequestEntityTooLarge", "the body is larger than any request can be"}
		}
		return &refusal{400, "MalformedInput", "the body could not be read"}
	}
	if kind, _, err := mime.ParseMediaType(q.r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return nil
	}
	values, err := url.ParseQuery(string(q.body))
	if err != nil {
		return &refusal{404, "MalformedQueryString", "the body is not a well-formed form"}
	}
	q.names = slices.Sorted(maps.Keys(values))
	for _, n := range q.names {
		v := values[n]
		if len(v) != 1 || !utf8.ValidString(n) || !utf8.ValidString(v[0]) {
			return &refusal{400, "MalformedInput", fmt.Sprintf("parameter %s is there twice, or is not UTF-8", cut(n))}
		}
		q.form[n] = v[0]
	}
	return nil
}

// violated notes that value, at the model's path, breaks a constraint.
func (q *request) violated(value, at, constraint string) {
	q.faults = append(q.faults, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: Member must %s", value, at, constraint))
}

// invalid is all violations in one refusal, as AWS writes them; an unknown
// parameter, which AWS may overlook, is one, because it is a mistake in a
// client.
func (q *request) invalid() *refusal {
	for _, n := range q.names {
		if !q.used[n] {
			q.faults = append(q.faults, fmt.Sprintf("%s has no parameter %s", q.form["Action"], cut(n)))
		}
	}
	switch n := len(q.faults); n {
	case 0:
		return nil
	case 1:
		return invalid("1 validation error detected: " + q.faults[0])
	default:
		return invalid(fmt.Sprintf("%d validation errors detected: %s", n, strings.Join(q.faults[:min(n, 20)], "; ")))
	}
}

// text reads a parameter of least to most characters.
func (q *request) text(param string, required bool, least, most int, p expression) string {
	v, there := q.form[param]
	q.used[param] = true
	at := camel(param)
	switch {
	case there:
		q.check(v, at, least, most, p)
	case required:
		q.violated("null", at, "not be null")
	}
	return v
}

func (q *request) check(v, at string, least, most int, p expression) {
	shown := "'" + cut(v) + "'"
	if at == "webIdentityToken" || at == "sAMLAssertion" {
		shown = "of " + strconv.Itoa(len(v)) + " bytes"
	}
	n := utf8.RuneCountInString(v)
	if n < least {
		q.violated(shown, at, fmt.Sprintf("have length greater than or equal to %d", least))
	}
	if n > most {
		q.violated(shown, at, fmt.Sprintf("have length less than or equal to %d", most))
	}
	if !p.MatchString(v) {
		q.violated(shown, at, "satisfy regular expression pattern: "+strings.TrimSuffix(strings.TrimPrefix(p().String(), "^(?:"), ")$"))
	}
}

// number reads an integer parameter; absent is returned when it is not there.
func (q *request) number(param string, least, most, absent int) int {
	v, there := q.form[param]
	q.used[param] = true
	if !there {
		return absent
	}
	n, err := strconv.Atoi(v)
	switch {
	case err != nil || strconv.Itoa(n) != v:
		q.violated("'"+cut(v)+"'", camel(param), "be an integer")
	case n < least:
		q.violated("'"+v+"'", camel(param), fmt.Sprintf("have value greater than or equal to %d", least))
	case n > most:
		q.violated("'"+v+"'", camel(param), fmt.Sprintf("have value less than or equal to %d", most))
	}
	return n
}

// list reads NAME.member.N and NAME.member.N.FIELD: the members in order, each
// by field, "" for a plain one. Members are numbered from 1 without a gap.
func (q *request) list(param string, most int, fields ...string) []map[string]string {
	var members []map[string]string
	prefix := param + ".member."
	byNumber := map[int]map[string]string{}
	if v, there := q.form[param]; there && v == "" {
		q.used[param] = true // an empty list
	}
	for _, n := range q.names {
		rest, ok := strings.CutPrefix(n, prefix)
		if !ok {
			continue
		}
		digits, field, dotted := strings.Cut(rest, ".")
		number, err := strconv.Atoi(digits)
		if err != nil || dotted == (field == "") || strconv.Itoa(number) != digits || !slices.Contains(fields, field) {
			continue // stays unknown
		}
		q.used[n] = true
		if byNumber[number] == nil {
			byNumber[number] = map[string]string{}
		}
		byNumber[number][field] = q.form[n]
	}
	for i := range len(byNumber) {
		m, ok := byNumber[i+1]
		if !ok {
			q.violated(fmt.Sprintf("of %d members", len(byNumber)), camel(param), "be numbered from 1 without a gap")
			return nil
		}
		members = append(members, m)
	}
	if len(members) > most {
		q.violated(fmt.Sprintf("of %d members", len(members)), camel(param), fmt.Sprintf("have length less than or equal to %d", most))
		return nil
	}
	return members
}

// camel is a parameter as the model's messages name it.
func camel(param string) string { return strings.ToLower(param[:1]) + param[1:] }

// A wish is what an action that issues credentials asks for.
type wish struct {
	role           Role // known only after the caller is trusted
	roleARN        string
	name           string
	seconds        int // 0: the default
	externalID     string
	sourceIdentity string
	tags           map[string]string
	transitive     []string
	tokenSize      int // at least
}

// wish reads what AssumeRole and AssumeRoleWithWebIdentity have in common.
func (q *request) wish(least time.Duration) wish {
	return wish{
		roleARN:   q.text("RoleArn", true, 20, 2048, arnPattern),
		name:      q.text("RoleSessionName", true, 2, 64, namePattern),
		seconds:   q.number("DurationSeconds", int(least/time.Second), int(maxSession/time.Second), 0),
		tokenSize: q.number("MinimumSessionTokenSize", 0, maxTokenSize, 0),
	}
}

// policies checks the session policies; only their form, nobody obeys them.
func (q *request) policies(role string) *refusal {
	policy := q.text("Policy", false, 1, maxPolicy, polPattern)
	size := utf8.RuneCountInString(policy)
	var foreign string
	for i, m := range q.list("PolicyArns", maxPolicyARNs, "arn") {
		q.check(m["arn"], fmt.Sprintf("policyArns.%d.member.arn", i+1), 20, 2048, arnPattern)
		size += utf8.RuneCountInString(m["arn"])
		a := parseARN(m["arn"])
		if !strings.HasPrefix(a.resource, "policy/") || a.account != parseARN(role).account && a.account != "aws" {
			foreign = m["arn"]
		}
	}
	if refused := q.invalid(); refused != nil {
		return refused
	}
	var document struct{ Statement json.RawMessage }
	switch {
	case size > maxPolicy:
		return invalid(fmt.Sprintf("the session policies have %d characters together; at most %d are allowed", size, maxPolicy))
	case foreign != "":
		return invalid(fmt.Sprintf("%s is not a managed policy of AWS or of the role's account", cut(foreign)))
	case policy != "" && (json.Unmarshal([]byte(policy), &document) != nil || document.Statement == nil):
		return &refusal{400, "MalformedPolicyDocument", "This policy contains invalid Json"}
	}
	return nil
}

// sessionTags reads Tags and TransitiveTagKeys.
func (q *request) sessionTags() (tags map[string]string, transitive []string) {
	tags = map[string]string{}
	for i, m := range q.list("Tags", maxTags, "Key", "Value") {
		k, there := m["Key"]
		v, valued := m["Value"]
		if at := fmt.Sprintf("tags.%d.member.", i+1); !there || !valued {
			q.violated("null", at+"key or value", "not be null")
		} else {
			q.tag(tags, k, v, at)
		}
	}
	for i, m := range q.list("TransitiveTagKeys", maxTags, "") {
		q.check(m[""], fmt.Sprintf("transitiveTagKeys.%d.member", i+1), 1, 128, tagPattern)
		transitive = append(transitive, m[""])
		if _, asked := tags[m[""]]; !asked {
			q.faults = append(q.faults, "The specified transitive tag key must be included in the requested tags: "+cut(m[""]))
		}
	}
	return tags, transitive
}

// tag adds one tag to tags.
func (q *request) tag(tags map[string]string, k, v, at string) {
	q.check(k, at+"key", 1, 128, tagPattern)
	q.check(v, at+"value", 0, 256, tagValue)
	if reserved(k) {
		q.violated("'"+cut(k)+"'", at+"key", "not begin with the reserved prefix aws:")
	}
	for other := range tags {
		if strings.EqualFold(k, other) {
			q.faults = append(q.faults, "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
	}
	tags[k] = v
}

// identity checks a source identity.
func (q *request) identity(v, at string) {
	q.check(v, at, 2, 64, namePattern)
	if reserved(v) {
		q.violated("'"+cut(v)+"'", at, "not begin with the reserved prefix aws:")
	}
}

func reserved(s string) bool { return len(s) >= 4 && strings.EqualFold(s[:4], "aws:") }

// An arn is arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE, all "" when it is
// not one.
type arn struct{ partition, service, account, resource string }

func parseARN(s string) arn {
	p := strings.SplitN(s, ":", 6)
	if len(p) != 6 || p[0] != "arn" || p[1] == "" || p[2] == "" || p[5] == "" || p[4] != "aws" && !accountID.MatchString(p[4]) {
		return arn{}
	}
	return arn{p[1], p[2], p[4], p[5]}
}

// role is the name of the role without its path, "" when a names none.
func (a arn) role() string {
	path, ok := strings.CutPrefix(a.resource, "role/")
	if !ok || a.service != "iam" || a.account == "aws" {
		return ""
	}
	return path[strings.LastIndexByte(path, '/')+1:]
}
