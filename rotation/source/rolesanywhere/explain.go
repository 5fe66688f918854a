package rolesanywhere

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// skewLimit is where a refusal is more likely a wrong clock than a wrong key.
const skewLimit = 4 * time.Minute

const requestID = "X-Amzn-Requestid"

// later are codes that the same request may outlive without anybody's help.
var later = map[string]bool{
	"ThrottlingException": true, "TooManyRequestsException": true, "RequestExpired": true, "RequestTimeTooSkewed": true,
	"InternalServerException": true, "InternalFailure": true, "ServiceUnavailable": true, "ServiceUnavailableException": true,
}

var hints = map[string]string{
	"AccessDeniedException": "check that the trust anchor has the certificate's authority, that it and the profile are enabled, that the profile has the role, " +
		"and that the role lets rolesanywhere.amazonaws.com do AssumeRole, TagSession and SetSourceIdentity",
	"ResourceNotFoundException": "check trust_anchor_arn and profile_arn",
	"ValidationException":       "check the ARNs, that the duration is 15m to 12h, and that the profile accepts a session name when one is sent",
}

// explain turns a refusal into an error of ours. There is no secret in a
// request: a signature is of use for minutes, and the service has seen it.
func (s Source) explain(resp *http.Response, text []byte) error {
	var doc struct {
		Type    string `json:"__type"`
		Code    string
		Message string
	}
	_ = json.Unmarshal(text, &doc) // what is no JSON has no code, and that is told below
	code, _, _ := strings.Cut(cmp.Or(resp.Header.Get("X-Amzn-Errortype"), doc.Type, doc.Code), ":")
	code = upstream.Clean(code[strings.LastIndexByte(code, '#')+1:])
	e := &source.Error{
		Op: s.op(), Code: code, Message: upstream.Clean(doc.Message), Status: resp.StatusCode,
		RequestID: upstream.Clean(resp.Header.Get(requestID)), RetryAfter: upstream.RetryAfter(resp.Header), Hint: hints[code],
	}
	switch {
	case code == "":
		e.Message = fmt.Sprintf("HTTP status %d, and not in the form of Roles Anywhere", resp.StatusCode)
		e.Hint = "check the endpoint, and whether a proxy answers in its place"
	case later[code], e.Status < 400, e.Status >= 500, e.Status == 408, e.Status == 429:
	case strings.HasPrefix(code, "AccessDenied"):
		e.Kind = source.ErrAccessDenied
	default:
		e.Kind = source.ErrRefused
	}
	if skew := s.HTTP.Skew(); skew.Abs() >= skewLimit {
		e.Hint = joined(e.Hint, fmt.Sprintf("this host's clock is off by %v: set it right", (-skew).Round(time.Second)))
	}
	return e
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
