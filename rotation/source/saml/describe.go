package saml

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hostrole/hostrole/rotation/assertion/samlp"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// tolerance is how far ahead of ours the identity provider's clock may be
// before it is worth a word.
const tolerance = 30 * time.Second

var sessionName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[\w+=,.@-]{2,64}$`) })

// describe tells of a response that STS has refused what is wrong with it, as
// far as we can see, or else whose it was.
func describe(c samlp.Claims, now time.Time) string {
	if wrong := suspect(c, now); len(wrong) > 0 {
		return "the response " + strings.Join(wrong, "; it ")
	}
	if c.Encrypted {
		return "the assertion is encrypted, so nothing more can be said"
	}
	return fmt.Sprintf("shown was a response of issuer %q for subject %q, issued %v ago", upstream.Clean(c.Issuer), upstream.Clean(c.Subject), round(now.Sub(c.Issued)))
}

// suspect lists what looks wrong, each with what to do about it.
func suspect(c samlp.Claims, now time.Time) (wrong []string) {
	add := func(when bool, format string, args ...any) {
		if when {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	age := now.Sub(c.Issued)
	add(c.Issued.IsZero(), "does not say when it was issued")
	add(!c.Issued.IsZero() && age >= samlp.Age, "was issued %v ago, and STS takes it for %v: what provides it has to do so for each renewal", round(age), samlp.Age)
	add(age < -tolerance && !c.Issued.IsZero(), "was issued %v ahead of this host's clock: compare the clocks", round(-age))
	if c.Encrypted {
		return wrong
	}
	add(!c.Signed, "has no signature: have the identity provider sign the assertion")
	add(!c.NotOnOrAfter.IsZero() && !now.Before(c.NotOnOrAfter), "was good until %v ago", round(now.Sub(c.NotOnOrAfter)))
	add(now.Before(c.NotBefore), "is not good before %v from now: compare the clocks", round(c.NotBefore.Sub(now)))
	add(!c.SessionEnd.IsZero() && !now.Before(c.SessionEnd), "is of a session that ended %v ago: log in anew", round(now.Sub(c.SessionEnd)))
	add(!slices.ContainsFunc(c.Audiences, audience), "is for the audience %q: set AWS's identifier there to urn:amazon:webservices", upstream.Clean(strings.Join(c.Audiences, ", ")))
	add(!consumer(c.Recipient), "is for the recipient %q: set AWS's endpoint there to https://signin.aws.amazon.com/saml", upstream.Clean(c.Recipient))
	add(c.Subject == "", "has no NameID")
	add(!sessionName().MatchString(c.SessionName), "has the RoleSessionName %q: have the identity provider send that attribute with 2 to 64 letters, digits, and _+=,.@-", upstream.Clean(c.SessionName))
	return wrong
}

// audience reports whether v looks like AWS, of any partition.
func audience(v string) bool { return strings.HasPrefix(v, "urn:amazon:webservices") || consumer(v) }

// consumer reports whether v looks like a sign-in endpoint of AWS.
func consumer(v string) bool {
	u, err := url.Parse(v)
	return err == nil && u.Scheme == "https" && slices.Contains(strings.Split(u.Hostname(), "."), "signin") && strings.HasPrefix(u.Path, "/saml")
}

// round keeps of a duration what a person wants to know.
func round(d time.Duration) time.Duration {
	if d < 2*time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(time.Minute)
}
