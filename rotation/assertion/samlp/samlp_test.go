package samlp_test

import (
	"context"
	"encoding/base64"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation/assertion/samlp"
	"github.com/hostrole/hostrole/rotation/command"
	"github.com/hostrole/hostrole/rotation/credential"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	entity = "https://idp.example.com/saml"
	role   = "arn:aws:iam::111122223333:role/app"
	corp   = "arn:aws:iam::111122223333:saml-provider/Corp"
)

func now() time.Time { return time.Now().Round(0).UTC() }

// issuer signs for all tests: making a key is slow.
var issuer = sync.OnceValue(func() *devsts.SAMLIssuer { return devsts.NewSAMLIssuer(entity, now) })

func claims() devsts.SAMLClaims {
	return devsts.SAMLClaims{Attributes: map[string][]string{"Role": {corp + "," + role}}}
}

// document is a response with a signed assertion.
func document() string { return issuer().Sign(issuer().Document(claims()), devsts.AssertionID) }

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// believed shows a response to an STS that checks it.
func believed(t *testing.T, r samlp.Response) {
	t.Helper()
	server := devsts.New(devsts.Options{Account: "111122223333", Region: "eu-central-1", Now: now,
		Roles: []devsts.Role{{ARN: role, SAML: []devsts.SAMLTrust{{Provider: corp, Subject: "*"}}}},
		SAML:  []devsts.SAMLProvider{{ARN: corp, Issuer: entity, Certificates: issuer().Certificates}}})
	form := url.Values{"Action": {"AssumeRoleWithSAML"}, "Version": {"2011-06-15"}, "RoleArn": {role}, "PrincipalArn": {corp}, "SAMLAssertion": {r.Text.Reveal()}}
	req := httptest.NewRequest("POST", "/", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	server.ServeHTTP(w, req)
	if w.Code != 200 {
		doc, _ := base64.StdEncoding.DecodeString(r.Text.Reveal())
		t.Errorf("STS did not believe it: %s\n%s", w.Body, doc)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsReadAtEachUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "response")
	lines := b64(document())
	for i := 76; i < len(lines); i += 77 {
		lines = lines[:i] + "\n" + lines[i:]
	}
	for name, text := range map[string]string{
		"base64":               b64(document()),
		"base64 in lines":      lines + "\r\n",
		"XML":                  document() + "\n",
		"XML with declaration": "\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + document(),
	} {
		write(t, path, text)
		r, err := samlp.File{Path: path}.Get(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.ContainsAny(r.Text.Reveal(), "\r\n ") {
			t.Errorf("%s: not in one line", name)
		}
		believed(t, r)
	}
}

func TestWhatIsNoResponseIsNotShown(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "response")
	doc := document()
	assertion := doc[strings.Index(doc, "<saml:Assertion"):strings.Index(doc, "</samlp:Response>")]
	for name, c := range map[string]struct{ text, want string }{
		"empty":             {" \n", "is empty"},
		"a word":            {"SECRET!", "neither XML nor base64"},
		"cut base64":        {b64(doc)[:1001], "cut short"},
		"cut XML":           {"<SECRET", "well-formed"},
		"bare assertion":    {assertion, "bare Assertion"},
		"other XML":         {"<SECRET/>", "no Response"},
		"HTML":              {"<!DOCTYPE html><html>SECRET</html>", "document type"},
		"entities":          {"<!DOCTYPE r [<!ENTITY a 'SECRET'>]><r>&a;</r>", "document type"},
		"unknown entity":    {"<SECRET>&SECRET;</SECRET>", "well-formed"},
		"other encoding":    {"<?xml version='1.0' encoding='SECRET'?><a/>", "UTF-8"},
		"two roots":         {"<SECRET/><SECRET/>", "more than one root"},
		"deep":              {strings.Repeat("<S>", 65) + strings.Repeat("</S>", 65), "levels"},
		"wide":              {"<S>" + strings.Repeat("<S/>", 10_000) + "</S>", "elements"},
		"no assertion":      {strings.Replace(doc, assertion, "", 1), "no Assertion"},
		"too long":          {strings.Replace(doc, "<samlp:Status>", "<!--"+strings.Repeat("SECRET", 15_000)+"--><samlp:Status>", 1), "100000 bytes"},
		"no text":           {"<!-- SECRET -->", "no element"},
		"endless and empty": {strings.Repeat(" ", 300_000), "is empty"},
	} {
		write(t, path, c.text)
		_, err := samlp.File{Path: path}.Get(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q and the path", name, err, c.want)
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: the error shows the text: %v", name, err)
		}
	}
	if _, err := (samlp.File{Path: filepath.Dir(path)}).Get(t.Context()); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := (samlp.File{Path: path + "x"}).Get(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
	write(t, path, doc)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (samlp.File{Path: path}).Get(ended); err == nil {
		t.Error("no error with a context that had ended")
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "response")
	write(t, path, document())
	run := func(script string) (samlp.Response, error) {
		return samlp.Command{Command: command.Command{Argv: []string{"/bin/sh", "-c", script, "sh", path}, Env: []string{"PATH=/usr/bin:/bin"}, Timeout: 10 * time.Second}}.Get(t.Context())
	}
	for _, script := range []string{`cat "$1"`, `base64 <"$1"`} {
		r, err := run(script)
		if err != nil {
			t.Errorf("%s: %v", script, err)
			continue
		}
		believed(t, r)
	}
	for script, want := range map[string]string{"echo SECRET; exit 1": "exit status 1", "echo '<SECRET>'": "/bin/sh holds no SAML response", "true": "/bin/sh is empty"} {
		if _, err := run(script); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", script, err)
		}
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	said := devsts.SAMLClaims{Subject: "host-7", Issued: at, NotOnOrAfter: at.Add(5 * time.Minute), SessionEnd: at.Add(time.Hour), Attributes: map[string][]string{
		"RoleSessionName": {" host-7\n"},
		"Role": {corp + "," + role, " " + role + "2,\n " + corp + " ", "arn:aws-cn:iam::1:role/a,b,arn:aws-cn:iam::1:saml-provider/c,d",
			"nonsense", role, role + "," + role, corp + "," + corp},
		"http://www.amazonaws.cn/SAML/Attributes/Role": {role + "3," + corp},
		"https://example.com/Role":                     {role + "4," + corp},
	}}
	full := samlp.Claims{
		Status: "Success", Issuer: entity, Subject: "host-7", Issued: at, Audiences: []string{"urn:amazon:webservices"}, Recipient: "https://signin.aws.amazon.com/saml",
		NotBefore: at, NotOnOrAfter: at.Add(5 * time.Minute), SessionEnd: at.Add(time.Hour), SessionName: "host-7",
		Roles: []samlp.Role{{role, corp}, {role + "2", corp}, {"arn:aws-cn:iam::1:role/a,b", "arn:aws-cn:iam::1:saml-provider/c,d"}, {role + "3", corp}},
	}
	plain := issuer().Document(said)
	signed := full
	signed.Signed = true
	later := full
	later.NotOnOrAfter, later.NotBefore = at.Add(time.Minute), time.Time{}
	const head = `<p:Response xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" xmlns="urn:oasis:names:tc:SAML:2.0:assertion" IssueInstant="2026-11-26T12:00:00.5Z"><Issuer>i</Issuer>`
	status := func(inner string) string { return head + "<p:Status>" + inner + "</p:Status></p:Response>" }
	half := at.Add(500 * time.Millisecond)
	for name, c := range map[string]struct {
		doc  string
		want samlp.Claims
	}{
		"all":                  {plain, full},
		"signed":               {issuer().Sign(plain, devsts.AssertionID), signed},
		"signed outside":       {issuer().Sign(plain, "_response"), signed},
		"other prefixes":       {strings.NewReplacer("saml:", "", "xmlns:saml=", "xmlns=").Replace(plain), full},
		"with comments":        {strings.Replace(plain, ">host-7<", ">ho<!-- x -->st-7<", 1), full},
		"sooner, no zone":      {strings.NewReplacer(`NotOnOrAfter="2026-11-26T12:05:00.000Z" Recipient`, `NotOnOrAfter="2026-11-26T12:01:00" Recipient`, `NotBefore="2`, `NotBefore="`).Replace(plain), later},
		"attributes of others": {strings.Replace(plain, ` Recipient="`, ` xmlns:z="urn:z" z:Recipient="no" Recipient="`, 1), full},
		"one end":              {strings.Replace(plain, `NotOnOrAfter="2026-11-26T12:05:00.000Z" Recipient`, "Recipient", 1), full},
		"login failed": {status(`<p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Requester"><p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"/></p:StatusCode><p:StatusMessage>no</p:StatusMessage>`),
			samlp.Claims{Status: "AuthnFailed", Message: "no", Issuer: "i", Issued: half}},
		"at fault":      {status(`<p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Responder"/>`), samlp.Claims{Status: "Responder", Fault: true, Issuer: "i", Issued: half}},
		"false success": {status(`<p:StatusCode Value="urn:x:Success"/>`), samlp.Claims{Issuer: "i", Issued: half}},
		"no status":     {status(""), samlp.Claims{Issuer: "i", Issued: half}},
		"encrypted": {strings.Replace(status(`<p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/>`), "</p:Response>", "<EncryptedAssertion/></p:Response>", 1),
			samlp.Claims{Status: "Success", Encrypted: true, Issuer: "i", Issued: half}},
	} {
		got, err := samlp.Response{Text: credential.NewSecret(b64(c.doc))}.Claims()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := samlp.Read([]byte(strings.Replace(plain, "<samlp:Status>", "<!--"+strings.Repeat("x", 128<<10)+"--><samlp:Status>", 1))); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a large one: %v", err)
	}
	if _, err := (samlp.Response{Text: credential.NewSecret("SECRET!")}).Claims(); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("no base64: %v", err)
	}
}

// What is cut out is byte for byte what was there, but for namespaces that
// only the elements around it declare.
func TestCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ doc, want string }{
		"the root":                  {"<?xml version='1.0'?>\n<x a = '1'><b/></x>\n", "<x a = '1'><b/></x>"},
		"bytes as they are":         {"<a><x  b='\"'\r\n c=\"&#x41;\"><![CDATA[<]]>\t<!-- d --></x  ></a>", "<x  b='\"'\r\n c=\"&#x41;\"><![CDATA[<]]>\t<!-- d --></x  >"},
		"self-closing":              {"<a><x/></a>", "<x/>"},
		"its own declaration":       {`<a><p:x xmlns:p="u"/></a>`, `<p:x xmlns:p="u"/>`},
		"an outer declaration":      {`<a xmlns:p="u"><p:x b="1"/></a>`, `<p:x xmlns:p="u" b="1"/>`},
		"used inside":               {`<a xmlns:p="u"><x><p:b/></x></a>`, `<x xmlns:p="u"><p:b/></x>`},
		"used in a value":           {`<a xmlns:p="u"><x type="p:string"/></a>`, `<x xmlns:p="u" type="p:string"/>`},
		"used in a list":            {`<a xmlns:p="u"><x PrefixList="p q"/></a>`, `<x xmlns:p="u" PrefixList="p q"/>`},
		"not used":                  {`<soap:a xmlns:soap="u"><x/></soap:a>`, `<x/>`},
		"the nearest":               {`<a xmlns:p="far"><b xmlns:p="near"><p:x/></b></a>`, `<p:x xmlns:p="near"/>`},
		"redeclared":                {`<a xmlns:p="far"><p:x xmlns:p="own"/></a>`, `<p:x xmlns:p="own"/>`},
		"the default namespace":     {`<a xmlns="u"><x/></a>`, `<x xmlns="u"/>`},
		"the default, taken back":   {`<a xmlns="u"><b xmlns=""><x/></b></a>`, `<x/>`},
		"the default, its own":      {`<a xmlns="u"><x xmlns="v"/></a>`, `<x xmlns="v"/>`},
		"several, sorted":           {`<a xmlns:q="2" xmlns:p="1"><p:x q:b=""/></a>`, `<p:x xmlns:p="1" xmlns:q="2" q:b=""/>`},
		"a name before a line":      {"<a xmlns:p='u'><p:x\n/></a>", "<p:x xmlns:p=\"u\"\n/>"},
		"a namespace to be escaped": {`<a xmlns:p="a&amp;b&quot;"><p:x/></a>`, `<p:x xmlns:p="a&amp;b&#34;"/>`},
	} {
		if got, err := samlp.CutOut([]byte(c.doc), "x"); err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v; want %s", name, got, err, c.want)
		}
	}
}

// small has all that is read of a response, in few bytes: the fuzzer mutates it.
const small = `<p:Response xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" xmlns="urn:oasis:names:tc:SAML:2.0:assertion"><p:Status><p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></p:Status>` +
	`<Assertion IssueInstant="2026-11-26T12:00:00Z"><Issuer>i</Issuer><Subject><NameID>n</NameID><SubjectConfirmation><SubjectConfirmationData Recipient="r" NotOnOrAfter="2026-11-26T12:05:00Z"/></SubjectConfirmation></Subject>` +
	`<Conditions NotBefore="2026-11-26T12:00:00Z"><AudienceRestriction><Audience>a</Audience></AudienceRestriction></Conditions><AuthnStatement SessionNotOnOrAfter="2026-11-26T13:00:00Z"/><AttributeStatement>` +
	`<Attribute Name="h/SAML/Attributes/Role"><AttributeValue>arn:a:role/r,arn:a:saml-provider/p</AttributeValue></Attribute></AttributeStatement></Assertion></p:Response>`

// FuzzSAML reads anything as a response: no panic, no error with a part of the
// document in it, and nothing that would not stand in a log.
func FuzzSAML(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte(`<p:Response xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol"><p:Status><p:StatusCode Value="urn:x:Success"/></p:Status></p:Response>`))
	f.Add([]byte(`<a:b xmlns:a="c"><![CDATA[]]>&#65;<a:b/></a:b>`))
	f.Add([]byte("\xef\xbb\xbf<?xml version='1.0' encoding='utf-8'?><a/>"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := samlp.Read(doc)
		if err == nil {
			for _, r := range c.Roles {
				if !strings.Contains(r.ARN, ":role/") || !strings.Contains(r.Provider, ":saml-provider/") {
					t.Errorf("a role %+v", r)
				}
			}
			return
		}
		if len(err.Error()) > 100 {
			t.Errorf("the error is long: %v", err)
		}
	})
}

// FuzzCut holds what is cut out to what was understood before.
func FuzzCut(f *testing.F) {
	f.Add([]byte(`<a xmlns:p=""><p:x></p:x></a>`))
	f.Add([]byte(`<a xmlns:p="u" xmlns="v"><p:x q="p:r"><b xmlns=""/></p:x></a>`))
	f.Add([]byte(`<a xmlns:p="u"><b xmlns:p='v&amp;'><x/><!-- --><p:x
	p:y="&#65;"><![CDATA[]]></p:x></b></a>`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		whole, err := samlp.Shape(doc)
		if err != nil {
			return
		}
		part, err := samlp.CutOut(doc, "x")
		if err != nil || part == nil {
			return
		}
		alone, err := samlp.Shape(part)
		if err != nil || !strings.Contains(whole, alone) {
			t.Errorf("%q out of %q: %v\n%s\n%s", part, doc, err, alone, whole)
		}
	})
}
