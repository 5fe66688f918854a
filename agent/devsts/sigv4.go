package devsts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	amzDate    = "20060102T150405Z"
	maxSkew    = 15 * time.Minute
	service    = "sts"
	terminator = "aws4_request"
)

// A principal is who signed, or whom a token names.
type principal struct {
	arn, userID, account string
	session              *Session // nil for a user
}

// authorization is a parsed Authorization header.
type authorization struct {
	keyID, date, region, service, end string // the credential and its scope
	headers                           []string
	signature                         string
}

// String spells a as the SDK's signer does, so that all of it can be compared
// at once: scope, list of headers and signature.
func (a authorization) String() string {
	return fmt.Sprintf("%s Credential=%s/%s/%s/%s/%s, SignedHeaders=%s, Signature=%s",
		algorithm, a.keyID, a.date, a.region, a.service, a.end, strings.Join(a.headers, ";"), a.signature)
}

func incomplete(format string, args ...any) *refusal {
	return &refusal{400, "IncompleteSignature", fmt.Sprintf(format, args...)}
}

func mismatch(format string, args ...any) *refusal {
	return &refusal{403, "SignatureDoesNotMatch", fmt.Sprintf(format, args...)}
}

var badToken = &refusal{403, "InvalidClientTokenId", "The security token included in the request is invalid."}

// parseAuthorization reads "ALGORITHM Credential=…, SignedHeaders=…,
// Signature=…": each part once, in any order.
func parseAuthorization(header string) (a authorization, refused *refusal) {
	kind, rest, _ := strings.Cut(header, " ")
	if kind != algorithm {
		return a, incomplete("Authorization must be of the algorithm %s", algorithm)
	}
	part := map[string]string{}
	for p := range strings.SplitSeq(rest, ",") {
		k, v, ok := strings.Cut(strings.TrimSpace(p), "=")
		if _, twice := part[k]; !ok || twice {
			return a, incomplete("a part of the Authorization header is not a valid key=value pair (missing equal-sign) or is there twice")
		}
		part[k] = v
	}
	for _, k := range []string{"Credential", "SignedHeaders", "Signature"} {
		if part[k] == "" {
			return a, incomplete("Authorization header requires '%s' parameter.", k)
		}
	}
	if len(part) != 3 {
		return a, incomplete("Authorization header has a parameter besides 'Credential', 'SignedHeaders' and 'Signature'.")
	}
	scope := strings.Split(part["Credential"], "/")
	if len(scope) != 5 || scope[0] == "" {
		return a, incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", cut(part["Credential"]))
	}
	a = authorization{scope[0], scope[1], scope[2], scope[3], scope[4], strings.Split(part["SignedHeaders"], ";"), part["Signature"]}
	if raw, err := hex.DecodeString(a.signature); err != nil || len(raw) != sha256.Size || strings.ToLower(a.signature) != a.signature {
		return a, incomplete("Signature must be 64 lower-case hexadecimal digits")
	}
	if !slices.IsSorted(a.headers) || len(slices.Compact(slices.Clone(a.headers))) != len(a.headers) {
		return a, mismatch("the SignedHeaders of the AWS Authorization must be sorted and unique")
	}
	return a, nil
}

// authenticate finds out who signed q, or why nobody did.
func (s *Server) authenticate(q *request) (principal, *refusal) {
	var nobody principal
	header := q.r.Header["Authorization"]
	if len(header) == 0 {
		return nobody, &refusal{403, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	}
	if len(header) > 1 {
		return nobody, incomplete("there is more than one Authorization header")
	}
	a, refused := parseAuthorization(header[0])
	if refused != nil {
		return nobody, refused
	}
	signed, refused := s.checkScope(q, a)
	if refused != nil {
		return nobody, refused
	}
	who, secret, refused := s.lookUp(q, a)
	if refused != nil {
		return nobody, refused
	}
	if refused := checkSkew(signed, q.now); refused != nil {
		return nobody, refused
	}
	sum := sha256.Sum256(q.body)
	payload := hex.EncodeToString(sum[:])
	told := q.r.Header["X-Amz-Content-Sha256"] // optional here, but never a lie
	if told != nil && !slices.Equal(told, []string{payload}) ||
		!hmac.Equal([]byte(sign(q, a, secret, payload, signed)), []byte(a.String())) {
		return nobody, mismatch("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	if who.session != nil && !q.now.Before(who.session.Expires) {
		return nobody, &refusal{403, "ExpiredToken", "The security token included in the request is expired"}
	}
	return who, nil
}

// checkScope checks all that needs no key, and returns when q was signed.
func (s *Server) checkScope(q *request, a authorization) (time.Time, *refusal) {
	dates := q.r.Header["X-Amz-Date"]
	if len(dates) != 1 {
		return time.Time{}, incomplete("Authorization header requires existence of one 'X-Amz-Date' header.")
	}
	signed, err := time.Parse(amzDate, dates[0])
	if err != nil || signed.Format(amzDate) != dates[0] { // Parse takes fractions
		return time.Time{}, incomplete("Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", cut(dates[0]))
	}
	for _, must := range []string{"host", "x-amz-date", "x-amz-security-token"} {
		if must == "x-amz-security-token" && q.r.Header["X-Amz-Security-Token"] == nil {
			continue
		}
		if !slices.Contains(a.headers, must) {
			return signed, mismatch("'%s' must be a 'SignedHeader' in the AWS Authorization.", must)
		}
	}
	switch {
	case a.date != dates[0][:8]:
		return signed, mismatch("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", cut(a.date), dates[0][:8], dates[0])
	case a.region != s.region:
		return signed, mismatch("Credential should be scoped to a valid region, not '%s'.", cut(a.region))
	case a.service != service:
		return signed, mismatch("Credential should be scoped to correct service: '%s'.", service)
	case a.end != terminator:
		return signed, mismatch("Credential should be scoped with a valid terminator: '%s', not '%s'.", terminator, cut(a.end))
	}
	return signed, nil
}

// lookUp finds the owner of a key: a user's stands alone, a session's comes
// with its token.
func (s *Server) lookUp(q *request, a authorization) (who principal, secret string, refused *refusal) {
	tokens := q.r.Header["X-Amz-Security-Token"]
	if len(tokens) == 0 {
		u, known := s.users[a.keyID]
		if !known {
			return who, "", badToken
		}
		return principal{arn: u.ARN, userID: stableID("AIDA", u.ARN), account: parseARN(u.ARN).account}, u.SecretAccessKey, nil
	}
	sess, ok := s.open(tokens[0])
	if len(tokens) > 1 || !ok || sess.AccessKeyID != a.keyID {
		return who, "", badToken
	}
	return principal{sess.ARN, sess.userID(), parseARN(sess.RoleARN).account, &sess}, s.secret(sess.Generation), nil
}

// checkSkew holds the clocks together.
func checkSkew(signed, now time.Time) *refusal {
	at, clock := signed.Format(amzDate), now.Format(amzDate)
	if earliest := now.Add(-maxSkew); signed.Before(earliest.Truncate(time.Second)) {
		return mismatch("Signature expired: %s is now earlier than %s (%s - 15 min.)", at, earliest.Format(amzDate), clock)
	}
	if latest := now.Add(maxSkew); signed.After(latest) {
		return mismatch("Signature not yet current: %s is still later than %s (%s + 15 min.)", at, latest.Format(amzDate), clock)
	}
	return nil
}

// sign makes the Authorization header that q should have, from exactly the
// headers that it says are signed.
//
// The names stay in lower case because the signer passes over User-Agent and a
// few others in their canonical spelling: a client may sign them, and then
// they count.
func sign(q *request, a authorization, secret, payload string, at time.Time) string {
	r := &http.Request{
		Method: q.r.Method,
		Host:   q.r.Host,
		URL:    &url.URL{Host: q.r.Host, Path: q.r.URL.Path, RawPath: q.r.URL.RawPath, RawQuery: q.r.URL.RawQuery},
		Header: http.Header{},
	}
	for _, name := range a.headers {
		switch name {
		case "host", "x-amz-date": // the signer's own
		case "content-length":
			r.ContentLength = int64(len(q.body))
		default:
			if v := q.r.Header.Values(name); v != nil {
				r.Header[name] = slices.Clone(v)
			}
		}
	}
	keys := aws.Credentials{AccessKeyID: a.keyID, SecretAccessKey: secret}
	// A signer of its own: a shared one keeps the key that it derived last.
	if err := v4.NewSigner().SignHTTP(q.r.Context(), keys, r, payload, service, a.region, at); err != nil {
		return ""
	}
	return r.Header.Get("Authorization")
}
