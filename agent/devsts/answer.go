package devsts

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	apiVersion = "2011-06-15"
	namespace  = "https://sts.amazonaws.com/doc/2011-06-15/"
)

// An answer is what goes out.
type answer struct {
	status int
	code   string // of an error, for the log
	header map[string]string
	body   []byte
	id     string
	date   time.Time
}

// write sends a. The names of headers are spelled as AWS spells them.
func (a answer) write(w http.ResponseWriter) {
	a.head(w)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a client that has gone needs no answer
}

// head sets the headers but for the length.
func (a answer) head(w http.ResponseWriter) {
	h := w.Header()
	h["x-amzn-RequestId"] = []string{a.id}
	h.Set("Content-Type", "text/xml")
	h.Set("Date", a.date.Format(http.TimeFormat))
	for k, v := range a.header {
		h.Set(k, v)
	}
}

// A refusal is an error answer.
type refusal struct {
	status        int
	code, message string
}

func (e *refusal) answer(id string) answer {
	type detail struct{ Type, Code, Message string }
	fault := "Sender"
	if e.status >= 500 {
		fault = "Receiver"
	}
	return answer{status: e.status, code: e.code, body: encode(struct {
		XMLName   xml.Name `xml:"ErrorResponse"`
		Namespace string   `xml:"xmlns,attr"`
		Error     detail
		RequestID string `xml:"RequestId"`
	}{xml.Name{}, namespace, detail{fault, e.code, e.message}, id})}
}

func invalid(message string) *refusal { return &refusal{400, "ValidationError", message} }
func denied(message string) *refusal  { return &refusal{403, "AccessDenied", message} }

// A result is the inner part of a successful answer, of any action.
type result struct {
	XMLName         xml.Name
	Subject         string           `xml:"SubjectFromWebIdentityToken,omitempty"`
	NameID          string           `xml:"Subject,omitempty"`
	SubjectType     string           `xml:",omitempty"`
	Issuer          string           `xml:",omitempty"`
	NameQualifier   string           `xml:",omitempty"`
	Audience        string           `xml:",omitempty"`
	Provider        string           `xml:",omitempty"`
	AssumedRoleUser *assumedRoleUser `xml:",omitempty"`
	Credentials     *credentials     `xml:",omitempty"`
	SourceIdentity  string           `xml:",omitempty"`
	TokenSize       int              `xml:"SessionTokenSize,omitempty"`
	TokenUse        int              `xml:"SessionTokenUtilization,omitempty"` // percent
	ARN             string           `xml:"Arn,omitempty"`
	UserID          string           `xml:"UserId,omitempty"`
	Account         string           `xml:",omitempty"`
}

type assumedRoleUser struct {
	ID  string `xml:"AssumedRoleId"`
	ARN string `xml:"Arn"`
}

type credentials struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

func (r *result) answer(action, id string) answer {
	r.XMLName.Local = action + "Result"
	return answer{status: 200, body: encode(struct {
		XMLName   xml.Name
		Namespace string `xml:"xmlns,attr"` // of all below; a Name with a Space would repeat it or take it back
		Result    *result
		RequestID string `xml:"ResponseMetadata>RequestId"`
	}{xml.Name{Local: action + "Response"}, namespace, r, id})}
}

// encode cannot fail: the types are ours, and text that is not XML becomes
// U+FFFD.
func encode(v any) []byte {
	b, err := xml.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("devsts: encoding an answer: " + err.Error())
	}
	return append(b, '\n')
}

// instant is a time as STS writes it.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// cut keeps what a client sent short enough to be repeated.
func cut(s string) string {
	const most = 256
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	end := most
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}
