package devsts_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// with is a good AssumeRole form with changes: a value of "-" takes the
// parameter away.
func with(pairs ...string) string {
	all := []string{"Action", "AssumeRole", "Version", "2011-06-15", "RoleArn", hub, "RoleSessionName", "one"}
	for i := 0; i < len(pairs); i += 2 {
		if at := slices.Index(all, pairs[i]); at >= 0 && at%2 == 0 {
			all = slices.Delete(all, at, at+2)
		}
		if pairs[i+1] != "-" {
			all = append(all, pairs[i], pairs[i+1])
		}
	}
	return form(all...)
}

func manyTags(n, valueLen int) (pairs []string) {
	for i := 1; i <= n; i++ {
		p := fmt.Sprintf("Tags.member.%d.", i)
		pairs = append(pairs, p+"Key", "k"+strconv.Itoa(i), p+"Value", strings.Repeat("v", valueLen))
	}
	return pairs
}

func many(format string, n int) (pairs []string) {
	for i := 1; i <= n; i++ {
		pairs = append(pairs, fmt.Sprintf(format, i), fmt.Sprintf("arn:aws:iam::aws:policy/p%d", i))
	}
	return pairs
}

func TestParameters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const (
		tag    = "Tags.member.1."
		policy = `{"Statement":[]}`
		badVal = "ValidationError"
	)
	rep := strings.Repeat
	for name, c := range map[string]struct {
		body          string
		status        int
		code, message string
	}{
		"least":                      {with(), 200, "", ""},
		"role missing":               {with("RoleArn", "-"), 400, badVal, "1 validation error detected: Value null at &#39;roleArn&#39; failed to satisfy constraint: Member must not be null"},
		"role short":                 {with("RoleArn", "arn:aws:iam::1:x"), 400, badVal, "length greater than or equal to 20"},
		"role long":                  {with("RoleArn", hub+rep("x", 2048)), 400, badVal, "length less than or equal to 2048"},
		"role no ARN":                {with("RoleArn", rep("x", 20)), 400, badVal, rep("x", 20) + " is invalid"},
		"role of control characters": {with("RoleArn", rep("\x01", 20)), 400, badVal, "pattern"},
		"name missing":               {with("RoleSessionName", "-"), 400, badVal, "roleSessionName"},
		"name short":                 {with("RoleSessionName", "a"), 400, badVal, "Value &#39;a&#39; at &#39;roleSessionName&#39; failed to satisfy constraint: Member must have length greater than or equal to 2"},
		"name of 64":                 {with("RoleSessionName", rep("a", 64)), 200, "", ""},
		"name of 65":                 {with("RoleSessionName", rep("a", 65)), 400, badVal, "length less than or equal to 64"},
		"name all classes":           {with("RoleSessionName", "aZ09_+=,.@-"), 200, "", ""},
		"name with a space":          {with("RoleSessionName", "a b"), 400, badVal, `satisfy regular expression pattern: [\w+=,.@-]*`},
		"name with an umlaut":        {with("RoleSessionName", "aäb"), 400, badVal, "pattern"},
		"name with a line end":       {with("RoleSessionName", "ab\n"), 400, badVal, "pattern"},
		"two violations":             {with("RoleSessionName", "a", "DurationSeconds", "1"), 400, badVal, "2 validation errors detected: "},
		"duration least":             {with("DurationSeconds", "900"), 200, "", ""},
		"duration below":             {with("DurationSeconds", "899"), 400, badVal, "Value &#39;899&#39; at &#39;durationSeconds&#39; failed to satisfy constraint: Member must have value greater than or equal to 900"},
		"duration above":             {with("DurationSeconds", "43201"), 400, badVal, "value less than or equal to 43200"},
		"duration above the role's":  {with("RoleArn", plain, "DurationSeconds", "3601"), 400, badVal, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		"duration no integer":        {with("DurationSeconds", "1e3"), 400, badVal, "integer"},
		"duration signed":            {with("DurationSeconds", "+900"), 400, badVal, "integer"},
		"duration empty":             {with("DurationSeconds", ""), 400, badVal, "integer"},
		"external id short":          {with("ExternalId", "a"), 400, badVal, "externalId"},
		"external id of 1224":        {with("ExternalId", rep("a", 1224)), 200, "", ""},
		"external id of 1225":        {with("ExternalId", rep("a", 1225)), 400, badVal, "1224"},
		"external id all classes":    {with("ExternalId", `a_+=,.@:/-`), 200, "", ""},
		"external id with a space":   {with("ExternalId", "a b"), 400, badVal, "pattern"},
		"external id empty":          {with("ExternalId", ""), 400, badVal, "length greater than or equal to 2"},
		"source identity reserved":   {with("SourceIdentity", "AWS:me"), 400, badVal, "aws:"},
		"source identity of 65":      {with("SourceIdentity", rep("a", 65)), 400, badVal, "64"},
		"policy":                     {with("Policy", policy), 200, "", ""},
		"policy empty":               {with("Policy", ""), 400, badVal, "policy"},
		"policy no JSON":             {with("Policy", "{"), 400, "MalformedPolicyDocument", ""},
		"policy no statement":        {with("Policy", "{}"), 400, "MalformedPolicyDocument", ""},
		"policy of 2048":             {with("Policy", policy+rep(" ", 2048-len(policy))), 200, "", ""},
		"policy of 2049":             {with("Policy", policy+rep(" ", 2049-len(policy))), 400, badVal, "2048"},
		"policy beyond Latin-1":      {with("Policy", `{"Statement":["€"]}`), 400, badVal, "pattern"},
		"ten policy ARNs":            {with(many("PolicyArns.member.%d.arn", 10)...), 200, "", ""},
		"eleven policy ARNs":         {with(many("PolicyArns.member.%d.arn", 11)...), 400, badVal, "less than or equal to 10"},
		"policy ARN elsewhere":       {with("PolicyArns.member.1.arn", "arn:aws:iam::444455556666:policy/x"), 400, badVal, "account"},
		"policy ARN of a role":       {with("PolicyArns.member.1.arn", hub), 400, badVal, "managed policy"},
		"policy ARN misspelt":        {with("PolicyArns.member.1.Arn", hub), 400, badVal, "no parameter PolicyArns.member.1.Arn"},
		"policies together":          {with("Policy", policy+rep(" ", 2020-len(policy)), "PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/long-enough"), 400, badVal, "together"},
		"fifty tags":                 {with(manyTags(50, 1)...), 200, "", ""},
		"fifty-one tags":             {with(manyTags(51, 1)...), 400, badVal, "at &#39;tags&#39; failed to satisfy constraint: Member must have length less than or equal to 50"},
		"tags beyond a token":        {with(manyTags(20, 256)...), 400, "PackedPolicyTooLarge", "4096"},
		"tag classes":                {with(tag+"Key", "Größe /=+-@_.:1", tag+"Value", "值 a"), 200, "", ""},
		"tag key of 129":             {with(tag+"Key", rep("k", 129), tag+"Value", "v"), 400, badVal, "tags.1.member.key"},
		"tag key empty":              {with(tag+"Key", "", tag+"Value", "v"), 400, badVal, "tags.1.member.key"},
		"tag key of bad class":       {with(tag+"Key", "a#", tag+"Value", "v"), 400, badVal, "pattern"},
		"tag key reserved":           {with(tag+"Key", "Aws:x", tag+"Value", "v"), 400, badVal, "aws:"},
		"tag value of 257":           {with(tag+"Key", "k", tag+"Value", rep("v", 257)), 400, badVal, "256"},
		"tag value of bad class":     {with(tag+"Key", "k", tag+"Value", "a*"), 400, badVal, "pattern"},
		"tag without value":          {with(tag+"Key", "k"), 400, badVal, "not be null"},
		"tag without key":            {with(tag+"Value", "k"), 400, badVal, "not be null"},
		"tags equal but for case":    {with(tag+"Key", "Team", tag+"Value", "a", "Tags.member.2.Key", "TEAM", "Tags.member.2.Value", "b"), 400, badVal, "Duplicate tag keys found"},
		"tags with a gap":            {with(tag+"Key", "a", tag+"Value", "a", "Tags.member.3.Key", "b", "Tags.member.3.Value", "b"), 400, badVal, "gap"},
		"tags from 0":                {with("Tags.member.0.Key", "a", "Tags.member.0.Value", "a"), 400, badVal, "gap"},
		"no tags":                    {with("Tags", ""), 200, "", ""},
		"transitive not a tag":       {with("TransitiveTagKeys.member.1", "Team"), 400, badVal, "must be included in the requested tags"},
		"token size":                 {with("MinimumSessionTokenSize", "4096"), 200, "", "<SessionTokenUtilization>100</SessionTokenUtilization>"},
		"token size above":           {with("MinimumSessionTokenSize", "4097"), 400, badVal, "4096"},
		"MFA":                        {with("TokenCode", "123456"), 400, badVal, "no parameter TokenCode"},
		"unknown parameter":          {with("RoleARN", hub), 400, badVal, "no parameter RoleARN"},
		"another action's":           {with("WebIdentityToken", "abcd"), 400, badVal, "no parameter WebIdentityToken"},
		"parameter twice":            {with() + "&RoleArn=" + plain, 400, "MalformedInput", "twice"},
		"action twice":               {with() + "&Action=AssumeRole", 400, "MalformedInput", "twice"},
		"not UTF-8":                  {with("ExternalId", "\xff\xfe"), 400, "MalformedInput", "UTF-8"},
		"no form":                    {with() + "&a=%zz", 404, "MalformedQueryString", ""},
		"no action":                  {with("Action", "-"), 400, "MissingAction", ""},
		"unknown action":             {with("Action", "Assume<Role>"), 400, "InvalidAction", "Assume&lt;Role&gt;"},
		"action in another case":     {with("Action", "assumeRole"), 400, "InvalidAction", ""},
		"no version":                 {with("Version", "-"), 400, "InvalidAction", "NO_VERSION_SPECIFIED"},
		"another version":            {with("Version", "2010-05-08"), 400, "InvalidAction", "2010-05-08"},
		"huge":                       {with("Policy", rep("x", 600_000)), 413, "RequestEntityTooLarge", ""},
		"nothing":                    {"", 400, "MissingAction", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantAnswer(t, raw(r.Server, "POST", "/", c.body, signer{}.sign), c.status, c.code, c.message)
		})
	}
}

func TestTokenSizeIsAtLeastWhatWasAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, size := range []int32{0, 1, 700, 1023, 1024, 1025, 4095, 4096} {
		out, err := r.alice(t).AssumeRole(t.Context(), assume(hub, "one", func(in *sts.AssumeRoleInput) { in.MinimumSessionTokenSize = aws.Int32(size) }))
		c := must(t, out, err).Credentials
		if n := len(*c.SessionToken); n < int(size) || n > 4096 || int32(n) != *out.SessionTokenSize {
			t.Errorf("asked for %d, got %d", size, n)
		}
		if _, err := r.Verify(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

// TestWire checks what the SDK does not look at.
func TestWire(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	type inner struct {
		ID string `xml:"https://sts.amazonaws.com/doc/2011-06-15/ RequestId"`
	}
	var ok struct {
		XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleResponse"`
		Result  struct {
			Credentials struct {
				Expiration string `xml:"https://sts.amazonaws.com/doc/2011-06-15/ Expiration"`
			} `xml:"https://sts.amazonaws.com/doc/2011-06-15/ Credentials"`
		} `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleResult"`
		Metadata inner `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ResponseMetadata"`
	}
	var no struct {
		XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
		Error   struct {
			Type string `xml:"https://sts.amazonaws.com/doc/2011-06-15/ Type"`
			Code string `xml:"https://sts.amazonaws.com/doc/2011-06-15/ Code"`
		} `xml:"https://sts.amazonaws.com/doc/2011-06-15/ Error"`
		inner
	}
	read := func(resp *http.Response, into any) string {
		t.Helper()
		b, _ := io.ReadAll(resp.Body)
		if err := xml.Unmarshal(b, into); err != nil {
			t.Fatalf("%v in\n%s", err, b)
		}
		date, err := http.ParseTime(resp.Header.Get("Date"))
		if off := r.now().Sub(date); err != nil || off < 0 || off.Seconds() > 5 {
			t.Errorf("Date %q", resp.Header.Get("Date"))
		}
		if ct := resp.Header.Get("Content-Type"); ct != "text/xml" {
			t.Errorf("Content-Type %q", ct)
		}
		id := map[string][]string(resp.Header)["x-amzn-RequestId"] // as AWS spells it on the wire
		if len(id) != 1 {
			t.Fatalf("headers %v", resp.Header)
		}
		return id[0]
	}
	if id := read(raw(r.Server, "POST", "/", with(), signer{}.sign), &ok); id != ok.Metadata.ID || len(ok.Result.Credentials.Expiration) != len("2006-01-02T15:04:05Z") {
		t.Errorf("id %s, answer %+v", id, ok)
	}
	if id := read(raw(r.Server, "POST", "/", with(), nil), &no); id != no.ID || no.Error.Type != "Sender" || no.Error.Code != "MissingAuthenticationToken" {
		t.Errorf("id %s, answer %+v", id, no)
	}
	wantAnswer(t, raw(r.Server, "POST", "/", with(), func(req *http.Request) {
		req.Header.Set("Content-Type", "application/json")
		signer{}.sign(req)
	}), 400, "MissingAction", "")
	wantAnswer(t, raw(r.Server, "GET", "/?"+whoami(), "", signer{}.sign), 400, "MissingAction", "")
}
