package live

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// wrongClock is from where on a clock is the likelier cause of a refusal.
const wrongClock = 4 * time.Minute

// explain says in one sentence why a role was not given, and what to do about
// it; "" where the upstream's own words are all that is known.
func explain(r config.Role, err error, skew time.Duration) string {
	var e *source.Error
	answered := errors.As(err, &e)
	if answered && e.Status > 0 {
		return refusal(r, e, skew)
	}
	return unreached(err)
}

// refusal is for what an upstream answered. AWS says the same of a role that is
// not there, that does not trust the caller, and that wants another external
// id: what of it the configuration has a part in is named first.
func refusal(r config.Role, e *source.Error, skew time.Duration) string {
	shown := ""
	if _, after, ok := strings.Cut(e.Hint, "shown was a "); ok {
		shown = "; it is a " + after
	}
	action, _, _ := strings.Cut(e.Op, " ")
	switch {
	case clockCodes[e.Code] && skew.Abs() >= wrongClock:
		return clock(skew) + ", so that its signatures are not taken"
	case e.Code == "AccessDenied" && action == "AssumeRole" && r.ExternalID != "":
		return fmt.Sprintf("the trust policy of %s does not let %s in with this external id: make external_id what sts:ExternalId is there, and see that the policy names that principal", r.ARN, principal(e))
	case e.Code == "AccessDenied" && action == "AssumeRole":
		return fmt.Sprintf("the trust policy of %s does not let %s in: name that principal there and, if the policy asks for an external id, write it as external_id%s", r.ARN, principal(e), more(r))
	case e.Code == "AccessDenied" && action == "AssumeRoleWithSAML":
		return fmt.Sprintf("the trust policy of %s does not let the SAML provider's users in: allow sts:AssumeRoleWithSAML to the provider there, with the audience and subject that are shown%s", r.ARN, shown)
	case e.Code == "AccessDenied" && strings.HasPrefix(action, "AssumeRoleWith"):
		return fmt.Sprintf("the trust policy of %s does not let this token in: allow sts:AssumeRoleWithWebIdentity to its issuer there, with its audience and subject%s", r.ARN, shown)
	case e.Code == "InvalidIdentityToken" && strings.Contains(e.Message, "udience") && action == "AssumeRoleWithSAML":
		return "the SAML response is for another audience than AWS: make it urn:amazon:webservices, or that of the role's partition, at the identity provider and in audience" + shown
	case e.Code == "InvalidIdentityToken" && strings.Contains(e.Message, "udience"):
		return "the token is for an audience that the account's OIDC provider does not list: add it to the client ids of the provider, or have the token made for one of them" + shown
	case e.Code == "InvalidIdentityToken" && strings.Contains(e.Message, "rovider found"):
		return "the account has no OIDC provider for the token's issuer: create one in IAM, or have the token made by one that is there" + shown
	case e.Code == "ExpiredTokenException" && action == "AssumeRoleWithSAML":
		return "the SAML response is too old, for STS takes one for five minutes: have it fetched at each use, by a command or a login" + shown
	case e.Code == "ExpiredTokenException":
		return "the token has expired: see to what renews it" + shown
	case e.Code == "ExpiredToken":
		return "the key that signs has expired: see to what renews it"
	case e.Code == "ValidationError" && (strings.Contains(e.Message, "MaxSessionDuration") || strings.Contains(e.Message, "1 hour session limit")):
		return fmt.Sprintf("a session of %v is longer than %s allows: write the duration that the role has as its maximum, raise that, or write duration = 'max'", r.Duration, r.ARN)
	case e.Code == "SignatureDoesNotMatch":
		return "the secret access key is not the one of this access key id: write the pair that belongs together"
	case e.Code == "InvalidClientTokenId":
		return "the access key id is not known there: check that the key has not been deleted, and that the region is of its partition"
	}
	return ""
}

// clockCodes are what a wrong clock is answered with.
var clockCodes = map[string]bool{"SignatureDoesNotMatch": true, "RequestExpired": true, "RequestTimeTooSkewed": true, "InvalidSignatureException": true, "AccessDeniedException": true}

// clock is the difference of the clocks, and what to do about it.
func clock(skew time.Duration) string {
	side := "behind"
	if skew < 0 {
		side = "ahead"
	}
	return fmt.Sprintf("this host's clock is %v %s: set it right, such as with timedatectl set-ntp true", skew.Abs().Round(time.Second), side)
}

var user = regexp.MustCompile(`User: (arn:[!-~]+) is not authorized`)

// principal is who asked, as STS has it.
func principal(e *source.Error) string {
	if m := user.FindStringSubmatch(e.Message); m != nil {
		return m[1]
	}
	return "this host"
}

// more are the rights that parameters of a role need.
func more(r config.Role) string {
	var needs []string
	if len(r.Tags) > 0 {
		needs = append(needs, "sts:TagSession")
	}
	if r.SourceIdentity != "" {
		needs = append(needs, "sts:SetSourceIdentity")
	}
	if len(needs) == 0 {
		return ""
	}
	return "; the policy has to allow " + strings.Join(needs, " and ") + " as well"
}

// unreached is for who gave no answer.
func unreached(err error) string {
	var name *net.DNSError
	var authority x509.UnknownAuthorityError
	var other x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dial *net.OpError
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Sprintf("DNS knows no host %s: check the region and the endpoint", name.Name)
	case errors.As(err, &name):
		return fmt.Sprintf("DNS has no answer about %s: check this host's resolver, and its way there", name.Name)
	case errors.Is(err, upstream.ErrPinned):
		return "the server's certificate has none of the keys in pins: add the new one, if the server was to have one"
	case errors.As(err, &authority):
		return "the server's certificate is from an authority that this host does not trust: write the PEM file of that authority as ca_file"
	case errors.As(err, &other):
		return fmt.Sprintf("the server's certificate is not for %s: write the endpoint with a name that the certificate has", other.Host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate has ended, or has not begun: check this host's clock first, and then the certificate"
	case errors.As(err, &dial) && dial.Op == "dial" && dial.Addr != nil:
		return fmt.Sprintf("nothing answers at %s: check the endpoint, the firewall and the proxy", dial.Addr)
	}
	return ""
}
