package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// What AWS's own STS takes; other servers have limits of their own, which they
// tell when they are asked.
var (
	awsRegion = expr(`^([a-z]{2,4}(-[a-z]+)+-\d{1,2}|aws-global)$`)
	awsRole   = expr(`^arn:(aws(?:-[a-z]+)*):iam::(\d{12}):role/(?:[!-~]+/)?[\w+=,.@-]{1,64}$`)
	awsPolicy = expr(`^arn:(aws(?:-[a-z]+)*):iam::(\d{12}|aws):policy/(?:[!-~]+/)?[\w+=,.@-]{1,128}$`)

	anyRole   = expr(`^arn:[\w-]+:[\w-]+:[\w-]*:[^:\s]*:role/(?:[!-~]+/)?[\w+=,.@-]{1,64}$`)
	anyPolicy = expr(`^arn:[!-~]+$`)
)

// mostARN is the length of any ARN in a request.
const mostARN = 2048

// partition is the one of a region.
func partition(region string) string {
	for _, p := range []struct{ prefix, name string }{
		{"cn-", "aws-cn"}, {"us-gov-", "aws-us-gov"}, {"eusc-", "aws-eusc"}, {"us-iso-", "aws-iso"},
		{"us-isob-", "aws-iso-b"}, {"eu-isoe-", "aws-iso-e"}, {"us-isof-", "aws-iso-f"},
	} {
		if strings.HasPrefix(region, p.prefix) {
			return p.name
		}
	}
	return "aws"
}

// awsDomains end the names of AWS's endpoints, private ones in a VPC included.
var awsDomains = []string{
	".amazonaws.com", ".api.aws", ".amazonaws.com.cn", ".api.amazonwebservices.com.cn", ".amazonaws.eu", ".api.amazonwebservices.eu",
	".c2s.ic.gov", ".sc2s.sgov.gov", ".cloud.adc-e.uk", ".csp.hci.ic.gov",
}

var hostRegion = expr(`(?:^|\.)sts(?:-fips)?\.([a-z0-9-]+)\.`)

// awsEndpoint tells whether an endpoint is AWS's, and which region is in its
// name, if any.
func awsEndpoint(endpoint string) (region string, is bool) {
	if endpoint == "" {
		return "", true
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", false
	}
	host := strings.ToLower(u.Hostname())
	if !slices.ContainsFunc(awsDomains, func(d string) bool { return strings.HasSuffix(host, d) }) {
		return "", false
	}
	if host == "sts.amazonaws.com" {
		return "us-east-1", true
	}
	if m := hostRegion.FindStringSubmatch(host); m != nil && awsRegion.MatchString(m[1]) {
		region = m[1]
	}
	return region, true
}

// literal is what may stand in a text beside its placeholders.
type literal struct {
	*expression
	hint string
}

var (
	sessionText = literal{expr(`^[\w+=,.@-]*$`), "letters, digits and _+=,.@-"}
	tagText     = literal{expr(`^[\p{L}\p{Z}\p{N}_.:/=+@-]*$`), "letters, digits, spaces and _.:/=+-@"}
	tagKey      = expr(`^[\p{L}\p{Z}\p{N}_.:/=+@-]+$`) // counted, the expression would take 5 MB

	placeholder  = expr(`\{[^{}]*\}`)
	placeholders = append([]string{"{hostname}", "{fqdn}", "{machine_id}", "{role}"}, callers...)
)

// template checks a text with placeholders. Nothing of its text is shown but a
// placeholder, which is a word in braces.
func template(text string, l literal, most int) (problem, hint string) {
	for _, p := range placeholder.FindAllString(text, -1) {
		if !slices.Contains(placeholders, p) {
			return fmt.Sprintf("%.40q is no placeholder", p), meant(p, placeholders)
		}
	}
	switch rest := placeholder.ReplaceAllString(text, ""); {
	case !l.MatchString(rest):
		return "has a character that STS does not take", "write " + l.hint + ", and of placeholders " + strings.Join(placeholders, ", ")
	case utf8.RuneCountInString(rest) > most:
		return fmt.Sprintf("is too long: %d characters beside its placeholders", utf8.RuneCountInString(rest)), fmt.Sprintf("STS takes %d", most)
	}
	return "", ""
}
