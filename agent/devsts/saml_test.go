package devsts_test

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/hostrole/hostrole/agent/devsts"
)

const (
	corp   = "arn:aws:iam::111122223333:saml-provider/Corp"
	entity = "https://idp.example.com/saml"
	awsACS = "https://signin.aws.amazon.com/saml"
)

// sharedIdP is the SAML issuer of all tests that do not rotate its key.
var sharedIdP = sync.OnceValue(func() *devsts.SAMLIssuer { return devsts.NewSAMLIssuer(entity, time.Now) })

func newSAMLRig(t testing.TB) *rig {
	return newRig(t, func(o *devsts.Options) {
		o.SAML = []devsts.SAMLProvider{
			{ARN: corp, Issuer: entity, Certificates: sharedIdP().Certificates},
			{ARN: corp + "2", Issuer: entity, Certificates: sharedIdP().Certificates},
		}
		for i := range o.Roles {
			if o.Roles[i].ARN == hub || o.Roles[i].ARN == plain {
				o.Roles[i].SAML = []devsts.SAMLTrust{{Provider: corp, Recipient: awsACS, Subject: "host-*"}}
			}
		}
	})
}

func (r *rig) assert(t testing.TB, role, provider, response string, change ...func(*sts.AssumeRoleWithSAMLInput)) (*sts.AssumeRoleWithSAMLOutput, error) {
	t.Helper()
	in := &sts.AssumeRoleWithSAMLInput{RoleArn: &role, PrincipalArn: &provider, SAMLAssertion: &response}
	for _, f := range change {
		f(in)
	}
	return r.client(t, "", "", "", nil).AssumeRoleWithSAML(context.Background(), in)
}

// offers are claims with the role hub and changes.
func offers(attributes map[string][]string) devsts.SAMLClaims {
	all := map[string][]string{"Role": {hub + "," + corp, corp + "," + plain}}
	maps.Copy(all, attributes)
	return devsts.SAMLClaims{Attributes: all}
}

func b64(document string) string { return base64.StdEncoding.EncodeToString([]byte(document)) }

func TestSAML(t *testing.T) {
	t.Parallel()
	r, idp := newSAMLRig(t), sharedIdP()
	document := idp.Document(offers(nil))
	inner := idp.Sign(document, devsts.AssertionID)
	for name, response := range map[string]string{
		"assertion signed":    idp.Mint(offers(nil)),
		"response signed":     b64(idp.Sign(document, "_response")),
		"both signed":         b64(idp.Sign(inner, "_response")),
		"a key of no account": b64(regexp.MustCompile(`<ds:X509Certificate>.*</ds:X509Certificate>`).ReplaceAllString(inner, "<ds:X509Certificate>AAAA</ds:X509Certificate>")),
		"with a comment":      b64(strings.Replace(inner, "host-7</saml:NameID>", "host<!-- -->-7</saml:NameID>", 1)), // no part of the canonical form
	} {
		out, err := r.assert(t, hub, corp, response)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sum := sha1.Sum([]byte(entity + account + "/Corp"))
		if *out.Audience != awsACS || *out.Issuer != entity || *out.Subject != "host-7" || *out.SubjectType != "persistent" || *out.NameQualifier != base64.StdEncoding.EncodeToString(sum[:]) {
			t.Errorf("%s: %s %s %s %s %s", name, *out.Audience, *out.Issuer, *out.Subject, *out.SubjectType, *out.NameQualifier)
		}
		c := out.Credentials
		if s, err := r.Verify(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken); err != nil || s.Depth != 1 || s.RoleARN != hub || s.Name != "host-7" {
			t.Errorf("%s: session %+v, %v", name, s, err)
		}
	}
	if _, err := r.assert(t, plain, corp, idp.Mint(offers(nil))); err != nil {
		t.Errorf("the pair with the provider first: %v", err)
	}
	if call := r.Calls()[0]; call.Principal != entity+" host-7" || !strings.HasPrefix(call.Params["SAMLAssertion"], "[") {
		t.Errorf("call %+v", call)
	}
}

func TestSAMLCarriesTagsAndSourceIdentity(t *testing.T) {
	t.Parallel()
	r, idp := newSAMLRig(t), sharedIdP()
	attributes := map[string][]string{"PrincipalTag:Team": {"blue"}, "PrincipalTag:Host": {"db-7"}, "TransitiveTagKeys": {"Team"}, "SourceIdentity": {"db-7"}, "RoleSessionName": {"one@example.com"}}
	out, err := r.assert(t, hub, corp, idp.Mint(offers(attributes)))
	c := must(t, out, err).Credentials
	s, err := r.Verify(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
	must(t, s, err)
	if !maps.Equal(s.Tags, map[string]string{"Team": "blue", "Host": "db-7"}) || !reflect.DeepEqual(s.TransitiveTags, []string{"Team"}) || s.SourceIdentity != "db-7" || s.Name != "one@example.com" {
		t.Errorf("session %+v", s)
	}
	_, err = r.assert(t, plain, corp, idp.Mint(offers(attributes)))
	wantRefusal(t, err, 403, "AccessDenied", "sts:TagSession")
	_, err = r.assert(t, plain, corp, idp.Mint(offers(map[string][]string{"SourceIdentity": {"db-7"}})))
	wantRefusal(t, err, 403, "AccessDenied", "sts:SetSourceIdentity")
}

func TestSAMLSessionLength(t *testing.T) {
	t.Parallel()
	r, idp := newSAMLRig(t), sharedIdP()
	ends := func(in time.Duration, attributes map[string][]string) devsts.SAMLClaims {
		c := offers(attributes)
		c.SessionEnd = time.Now().Add(in)
		return c
	}
	duration := func(seconds string) map[string][]string { return map[string][]string{"SessionDuration": {seconds}} }
	for name, c := range map[string]struct {
		claims devsts.SAMLClaims
		asked  int32
		want   time.Duration
	}{
		"default":                                {offers(nil), 0, time.Hour},
		"as asked":                               {offers(nil), 43200, 12 * time.Hour},
		"SessionDuration is shorter":             {offers(duration("1800")), 7200, 30 * time.Minute},
		"SessionDuration is longer":              {offers(duration("43200")), 7200, 2 * time.Hour},
		"SessionNotOnOrAfter is sooner":          {ends(20*time.Minute, nil), 7200, 20 * time.Minute},
		"SessionNotOnOrAfter is later":           {ends(20*time.Hour, nil), 7200, 2 * time.Hour},
		"SessionNotOnOrAfter and the default":    {ends(10*time.Minute, nil), 0, 10 * time.Minute},
		"SessionNotOnOrAfter is sooner than all": {ends(5*time.Minute, duration("1800")), 7200, 5 * time.Minute},
	} {
		before := time.Now()
		out, err := r.assert(t, hub, corp, idp.Mint(c.claims), func(in *sts.AssumeRoleWithSAMLInput) {
			if c.asked > 0 {
				in.DurationSeconds = aws.Int32(c.asked)
			}
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if life := out.Credentials.Expiration.Sub(before); (life - c.want).Abs() > 5*time.Second {
			t.Errorf("%s: life %v, want %v", name, life, c.want)
		}
	}
	_, err := r.assert(t, plain, corp, idp.Mint(offers(duration("1800"))), func(in *sts.AssumeRoleWithSAMLInput) { in.DurationSeconds = aws.Int32(7200) })
	wantRefusal(t, err, 400, "ValidationError", "exceeds the MaxSessionDuration") // nothing makes up for that
}

func TestSAMLRefused(t *testing.T) {
	t.Parallel()
	r, idp := newSAMLRig(t), sharedIdP()
	stranger := devsts.NewSAMLIssuer(entity, time.Now)
	now := time.Now()
	mint := func(change func(*devsts.SAMLClaims)) string {
		c := offers(nil)
		change(&c)
		return idp.Mint(c)
	}
	attr := func(name string, values ...string) string { return idp.Mint(offers(map[string][]string{name: values})) }
	// changed is signed after a change; spoilt is changed after it was signed.
	changed := func(pairs ...string) string {
		return b64(idp.Sign(strings.NewReplacer(pairs...).Replace(idp.Document(offers(nil))), devsts.AssertionID))
	}
	signed := idp.Sign(idp.Document(offers(nil)), devsts.AssertionID)
	spoilt := func(old, replacement string) string {
		if !strings.Contains(signed, old) {
			t.Fatalf("no %s in %s", old, signed)
		}
		return b64(strings.Replace(signed, old, replacement, 1))
	}
	fiftyOne := map[string][]string{}
	for i := range 51 {
		fiftyOne[fmt.Sprintf("PrincipalTag:k%d", i)] = []string{"v"}
	}
	const bad = "InvalidIdentityToken"
	for name, c := range map[string]struct {
		role, provider, response string
		status                   int
		code, message            string
	}{
		"no base64":             {hub, corp, "<samlp:Response/>", 400, bad, "Invalid base64 SAMLResponse"},
		"no XML":                {hub, corp, b64("hello, world"), 400, bad, "Invalid SAML response"},
		"cut short":             {hub, corp, b64(signed[:len(signed)/2]), 400, bad, "well-formed"},
		"too long":              {hub, corp, strings.Repeat("A", 100_001), 400, "ValidationError", "sAMLAssertion"},
		"bare assertion":        {hub, corp, b64(signed[strings.Index(signed, "<saml:Assertion"):strings.Index(signed, "</samlp:Response>")]), 400, bad, "no Response"},
		"document type":         {hub, corp, b64("<!DOCTYPE r [<!ENTITY x 'y'>]>" + signed), 400, bad, "document type"},
		"deep":                  {hub, corp, b64(strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100)), 400, bad, "levels"},
		"encrypted":             {hub, corp, spoilt("<saml:Assertion ", `<saml:EncryptedAssertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"/><saml:Assertion `), 400, bad, "encrypted"},
		"version 1.1":           {hub, corp, spoilt(`Version="2.0"`, `Version="1.1"`), 400, bad, "no Response of SAML 2.0"},
		"status":                {hub, corp, spoilt("status:Success", "status:Requester"), 400, bad, "status"},
		"unknown provider":      {hub, corp + "9", idp.Mint(offers(nil)), 400, bad, "Specified provider doesn't exist"},
		"no provider ARN":       {hub, hub, idp.Mint(offers(nil)), 400, "ValidationError", "Request ARN is invalid"},
		"no role ARN":           {corp, corp, idp.Mint(offers(nil)), 400, "ValidationError", "Request ARN is invalid"},
		"another issuer":        {hub, corp, changed(entity, "https://evil.example.com"), 400, bad, "Issuer not present in specified provider"},
		"issuer with a comment": {hub, corp, changed(entity+"</saml:Issuer><saml:Subject>", entity+"<!-- -->.evil.example</saml:Issuer><saml:Subject>"), 400, bad, "Issuer not present"},
		"unsigned":              {hub, corp, b64(idp.Document(offers(nil))), 400, bad, "Response signature invalid"},
		"a stranger's key":      {hub, corp, stranger.Mint(offers(nil)), 400, bad, "Response signature invalid"},
		"subject changed":       {hub, corp, spoilt(">host-7</saml:NameID>", ">host-1</saml:NameID>"), 400, bad, "Response signature invalid"},
		"role changed":          {hub, corp, spoilt(plain, spoke), 400, bad, "Response signature invalid"},
		"time changed":          {hub, corp, spoilt(" NotOnOrAfter=\"", " NotOnOrAfter=\"9"), 400, bad, "Response signature invalid"},
		"digest changed":        {hub, corp, spoilt("<ds:DigestValue>", "<ds:DigestValue>AA"), 400, bad, "Response signature invalid"},
		"signature changed":     {hub, corp, spoilt("<ds:SignatureValue>", "<ds:SignatureValue>AAAA"), 400, bad, "Response signature invalid"},
		"signature emptied":     {hub, corp, spoilt("<ds:SignedInfo>", "<ds:SignedInfo/><ds:SignedInfo>"), 400, bad, "Response signature invalid"},
		"method SHA-1":          {hub, corp, spoilt("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "http://www.w3.org/2000/09/xmldsig#rsa-sha1"), 400, bad, "Response signature invalid"},
		"another transform":     {hub, corp, spoilt("http://www.w3.org/2000/09/xmldsig#enveloped-signature", "http://www.w3.org/TR/1999/REC-xslt-19991116"), 400, bad, "Response signature invalid"},
		"reference to all":      {hub, corp, spoilt("URI=\"#_assertion\"", "URI=\"\""), 400, bad, "Response signature invalid"},
		"inner fine, outer no":  {hub, corp, b64(stranger.Sign(signed, "_response")), 400, bad, "Response signature invalid"},
		"outer fine, inner no":  {hub, corp, b64(idp.Sign(stranger.Sign(idp.Document(offers(nil)), devsts.AssertionID), "_response")), 400, bad, "Response signature invalid"},
		"wrong audience":        {hub, corp, mint(func(c *devsts.SAMLClaims) { c.Audience = "https://sp.example.com" }), 400, bad, "Response does not contain the required audience"},
		"wrong recipient":       {hub, corp, mint(func(c *devsts.SAMLClaims) { c.Recipient = "https://sp.example.com/saml" }), 400, bad, "Recipient"},
		"recipient's neighbour": {hub, corp, mint(func(c *devsts.SAMLClaims) {
			c.Recipient = "https://signin.aws.amazon.com.evil.example/saml"
		}), 400, bad, "Recipient"},
		"no recipient":          {hub, corp, changed(` Recipient="`+awsACS+`"`, ""), 400, bad, "Recipient"},
		"recipient not trusted": {hub, corp, mint(func(c *devsts.SAMLClaims) { c.Recipient = "https://eu-central-1.signin.aws.amazon.com/saml" }), 403, "AccessDenied", "sts:AssumeRoleWithSAML"},
		"not bearer":            {hub, corp, changed("cm:bearer", "cm:holder-of-key"), 400, bad, "bearer"},
		"no end":                {hub, corp, changed("<saml:SubjectConfirmationData NotOnOrAfter=", "<saml:SubjectConfirmationData NotBefore="), 400, bad, "NotOnOrAfter"},
		"five minutes old":      {hub, corp, mint(func(c *devsts.SAMLClaims) { c.Issued, c.NotOnOrAfter = now.Add(-5*time.Minute), now.Add(time.Hour) }), 400, "ExpiredTokenException", "5 minutes"},
		"expired":               {hub, corp, mint(func(c *devsts.SAMLClaims) { c.Issued, c.NotOnOrAfter = now.Add(-time.Minute), now.Add(-time.Second) }), 400, "ExpiredTokenException", "Token expired"},
		"session over":          {hub, corp, mint(func(c *devsts.SAMLClaims) { c.SessionEnd = now.Add(-time.Second) }), 400, "ExpiredTokenException", "SessionNotOnOrAfter"},
		"issued ahead":          {hub, corp, mint(func(c *devsts.SAMLClaims) { c.Issued = now.Add(time.Minute) }), 403, "IDPRejectedClaim", "future"},
		"not valid yet":         {hub, corp, changed("<saml:Conditions NotBefore=\"2", "<saml:Conditions NotBefore=\"9"), 403, "IDPRejectedClaim", "not valid yet"},
		"local time":            {hub, corp, changed("Z\" NotOnOrAfter", "+00:00\" NotOnOrAfter"), 400, bad, "UTC"},
		"end in local time":     {hub, corp, changed("Z\"><saml:AudienceRestriction>", "+00:00\"><saml:AudienceRestriction>"), 400, bad, "UTC"},
		"session end no time":   {hub, corp, changed("<saml:AuthnStatement ", "<saml:AuthnStatement SessionNotOnOrAfter=\"never\" "), 400, bad, "UTC"},
		"no session name":       {hub, corp, attr("RoleSessionName"), 400, bad, "RoleSessionName is required in AuthnResponse"},
		"two session names":     {hub, corp, attr("RoleSessionName", "one", "two"), 400, bad, "RoleSessionName"},
		"bad session name":      {hub, corp, attr("RoleSessionName", "host 7"), 400, bad, "must match"},
		"role not offered":      {hub, corp, attr("Role", spoke+","+corp), 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithSAML"},
		"pair torn":             {hub, corp, attr("Role", hub+","+corp+"2", plain+","+corp), 403, "AccessDenied", "sts:AssumeRoleWithSAML"},
		"provider not trusted":  {hub, corp + "2", attr("Role", hub+","+corp+"2"), 403, "AccessDenied", "sts:AssumeRoleWithSAML"},
		"role without trust":    {spoke, corp, attr("Role", spoke+","+corp), 403, "AccessDenied", "sts:AssumeRoleWithSAML"},
		"subject not trusted":   {hub, corp, mint(func(c *devsts.SAMLClaims) { c.Subject = "guest-7" }), 403, "AccessDenied", "sts:AssumeRoleWithSAML"},
		"tag of two values":     {hub, corp, attr("PrincipalTag:Team", "a", "b"), 400, bad, "one value"},
		"51 tags":               {hub, corp, idp.Mint(offers(fiftyOne)), 400, bad, "at most 50"},
		"transitive not a tag":  {hub, corp, attr("TransitiveTagKeys", "Team"), 400, bad, "transitive"},
		"reserved tag":          {hub, corp, attr("PrincipalTag:aws:x", "a"), 400, "ValidationError", "aws:"},
		"bad source identity":   {hub, corp, attr("SourceIdentity", "aws:x"), 400, bad, "Source Identity must match"},
		"session of a second":   {hub, corp, attr("SessionDuration", "1"), 400, bad, "SessionDuration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := r.assert(t, c.role, c.provider, c.response)
			wantRefusal(t, err, c.status, c.code, c.message)
		})
	}
}

// TestSAMLSignatureWrapping moves a good signature so that it still covers what
// was signed, while a reader that looks in the usual place sees another
// assertion.
func TestSAMLSignatureWrapping(t *testing.T) {
	t.Parallel()
	r, idp := newSAMLRig(t), sharedIdP()
	document := idp.Document(offers(nil))
	inner, outer := idp.Sign(document, devsts.AssertionID), idp.Sign(document, "_response")
	cut := func(s, from, to string) string {
		i, j := strings.Index(s, from), strings.Index(s, to)
		return s[i : j+len(to)]
	}
	good := cut(inner, "<saml:Assertion ", "</saml:Assertion>")
	signature := cut(inner, "<ds:Signature ", "</ds:Signature>")
	evil := strings.NewReplacer(signature, "", ">host-7<", ">host-evil<").Replace(good)
	renamed := strings.Replace(evil, `ID="_assertion"`, `ID="_evil"`, 1)
	withSignature := func(a, extra string) string {
		return strings.Replace(a, "</saml:Issuer>", "</saml:Issuer>"+extra, 1)
	}
	object := strings.Replace(signature, "</ds:Signature>", "<ds:Object>"+strings.Replace(good, signature, "", 1)+"</ds:Object></ds:Signature>", 1)
	evilOuter := strings.NewReplacer(`ID="_response"`, `ID="_evil"`, ">host-7<", ">host-evil<").Replace(document)
	const second, place = "an assertion beside the one in its place", "a signature where none belongs"
	for name, c := range map[string]struct{ response, message string }{
		"the evil one first":                    {strings.Replace(inner, good, renamed+good, 1), second},
		"the evil one last":                     {strings.Replace(inner, good, good+renamed, 1), second},
		"the good one inside the evil one":      {strings.Replace(inner, good, strings.Replace(renamed, "</saml:Assertion>", good+"</saml:Assertion>", 1), 1), second},
		"the good one in extensions":            {strings.Replace(inner, good, "<samlp:Extensions>"+good+"</samlp:Extensions>"+renamed, 1), second},
		"the good one in the signature":         {strings.Replace(inner, good, withSignature(renamed, object), 1), second},
		"the evil one with the same ID":         {strings.Replace(inner, good, evil+good, 1), "one ID"},
		"the response with the same ID":         {strings.Replace(inner, "_response", devsts.AssertionID, 1), "one ID"},
		"an ID in another attribute":            {strings.Replace(inner, "<saml:Subject>", `<saml:Subject Id="_assertion">`, 1), "one ID"},
		"the signature on the evil one":         {strings.Replace(inner, good, withSignature(renamed, signature), 1), "Response signature invalid"},
		"the signature on the evil one, its ID": {strings.Replace(inner, good, withSignature(evil, signature), 1), "Response signature invalid"},
		"the signature on the response":         {strings.Replace(inner, good, signature+renamed+"<samlp:Extensions>"+strings.Replace(good, signature, "", 1)+"</samlp:Extensions>", 1), second},
		"the signature in extensions":           {strings.Replace(inner, good, "<samlp:Extensions>"+signature+"</samlp:Extensions>"+evil, 1), place},
		"a signed response inside another":      {strings.Replace(evilOuter, "</samlp:Status>", "</samlp:Status><samlp:Extensions>"+strings.Replace(outer, "saml:Assertion", "saml:Advice", 2)+"</samlp:Extensions>", 1), "a response in it"},
		"two signatures":                        {strings.Replace(inner, signature, signature+signature, 1), place},
		"an attribute twice":                    {strings.Replace(inner, `ID="_assertion"`, `ID="_assertion" ID="_evil"`, 1), "attribute twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.response == inner {
				t.Fatal("the attack changed nothing")
			}
			_, err := r.assert(t, hub, corp, b64(c.response))
			wantRefusal(t, err, 400, "InvalidIdentityToken", c.message)
		})
	}
	// An assertion that nobody reads, in the namespace of SAML 1, does no harm.
	old := strings.ReplaceAll(renamed, "urn:oasis:names:tc:SAML:2.0:assertion", "urn:oasis:names:tc:SAML:1.0:assertion")
	if out, err := r.assert(t, hub, corp, b64(strings.Replace(inner, good, good+old, 1))); err != nil || *out.Subject != "host-7" {
		t.Errorf("beside an assertion of SAML 1: %v", err)
	}
}

func TestSAMLTakesNoSignature(t *testing.T) {
	t.Parallel()
	r := newSAMLRig(t)
	body := form("Action", "AssumeRoleWithSAML", "Version", "2011-06-15", "RoleArn", hub, "PrincipalArn", corp, "SAMLAssertion", sharedIdP().Mint(offers(nil)))
	wantAnswer(t, raw(r.Server, "POST", "/", body, nil), 200, "", "<Subject>host-7</Subject>")
	wantAnswer(t, raw(r.Server, "POST", "/", body, signer{}.sign), 400, "InvalidParameterCombination", "Authorization")
	wantAnswer(t, raw(r.Server, "POST", "/", body+"&RoleSessionName=one", nil), 400, "ValidationError", "no parameter RoleSessionName")
	wantAnswer(t, raw(r.Server, "POST", "/", body+"&DurationSeconds=899", nil), 400, "ValidationError", "900")
	wantAnswer(t, raw(r.Server, "POST", "/", body+"&MinimumSessionTokenSize=4096", nil), 200, "", "<SessionTokenSize>4096</SessionTokenSize>")
	wantAnswer(t, raw(r.Server, "POST", "/", strings.Replace(body, "SAMLAssertion", "SAML", 1), nil), 400, "ValidationError", "sAMLAssertion")
}

func TestSAMLCertificateRotation(t *testing.T) {
	t.Parallel()
	idp := devsts.NewSAMLIssuer(entity, time.Now)
	r := newSAMLRig(t)
	r.Server = devsts.New(devsts.Options{Account: account, Region: region, Now: r.now,
		Roles: []devsts.Role{{ARN: hub, SAML: []devsts.SAMLTrust{{Provider: corp, Subject: "*"}}}},
		SAML:  []devsts.SAMLProvider{{ARN: corp, Issuer: entity, Certificates: idp.Certificates}}})
	old := idp.Mint(offers(nil))
	idp.Rotate()
	for name, response := range map[string]string{"old": old, "new": idp.Mint(offers(nil))} {
		if _, err := r.assert(t, hub, corp, response); err != nil {
			t.Errorf("%s, after one rotation: %v", name, err)
		}
	}
	idp.Rotate()
	_, err := r.assert(t, hub, corp, old)
	wantRefusal(t, err, 400, "InvalidIdentityToken", "Response signature invalid")
}

func TestSAMLCertificateExpires(t *testing.T) {
	t.Parallel()
	r, c := newSAMLRig(t), offers(nil)
	for in, ok := range map[time.Duration]bool{9 * 365 * 24 * time.Hour: true, 11 * 365 * 24 * time.Hour: false} {
		r.shift.Store(int64(in))
		c.Issued = r.now().Add(-time.Second)
		if _, err := r.assert(t, hub, corp, sharedIdP().Mint(c)); (err == nil) != ok {
			t.Errorf("in %v: %v", in, err)
		}
	}
}

func TestSAMLProvidersThatCannotWorkPanic(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]devsts.SAMLProvider{
		"no ARN":          {ARN: hub, Certificates: sharedIdP().Certificates},
		"no certificates": {ARN: corp},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("New took it")
				}
			}()
			devsts.New(devsts.Options{Account: account, Region: region, Now: time.Now, SAML: []devsts.SAMLProvider{p}})
		})
	}
}
