package sts

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// skewLimit is where a failed signature is more likely a wrong clock than a
// wrong key. STS itself tolerates 15 minutes.
const skewLimit = 4 * time.Minute

// transient are the codes worth another try with the same bytes at once.
// Throttling comes as a 400, so a rule on the status alone misses it.
var transient = map[string]bool{
	"Throttling": true, "ThrottlingException": true, "RequestLimitExceeded": true,
	"TooManyRequestsException": true, "IDPCommunicationError": true,
	"RequestTimeout": true, "RequestTimeoutException": true,
}

// Transient is the rule for [upstream.Options.Transient]: it reports whether
// an answer of STS is worth another try at once.
func Transient(_ int, body []byte) bool {
	var e struct {
		Code string `xml:"Error>Code"`
	}
	// What is no XML is judged by its status alone.
	return xml.Unmarshal(body, &e) == nil && transient[e.Code]
}

// later are codes that the same request may outlive without anybody's help:
// the base credential is renewed, or the clock's skew is known by now.
var later = map[string]bool{
	"ExpiredToken": true, "RequestExpired": true, "RequestTimeTooSkewed": true,
	"InternalFailure": true, "InternalError": true, "ServiceUnavailable": true,
	"STSNotInitialized": true, "STSIAMNotInitialized": true, // MinIO, while it starts
}

// crowded is the hint for a server that is asked too often.
const crowded = "it is asked again, later each time; if a fleet boots at once, raise splay in [rotation]"

var hints = map[string]string{
	"AccessDenied":               "check the role's trust policy: does it name this identity, and its external id, tags and source identity?",
	"ValidationError":            "check the role's duration, session name and policy; a chained role is given one hour at most",
	"ExpiredTokenException":      "the assertion is too old: see what renews it",
	"InvalidIdentityToken":       "check the audience and the issuer that the role's account trusts",
	"IDPRejectedClaim":           "the identity provider's token has a claim that is not accepted: get a new one",
	"InvalidClientTokenId":       "the access key id is unknown there: check the source's key and the region's partition",
	"SignatureDoesNotMatch":      "check the source's secret key",
	"RegionDisabledException":    "activate STS for this region in the role's account, or use another region",
	"MalformedPolicyDocument":    "check the role's policy file",
	"PackedPolicyTooLarge":       "shorten the role's policy or tags",
	"ExpiredToken":               "the base credential has expired",
	"MissingAuthenticationToken": "the upstream got no signature: check the source",
	"Throttling":                 crowded,
	"ThrottlingException":        crowded,
	"RequestLimitExceeded":       crowded,
	"TooManyRequestsException":   crowded,
}

// skewed reports whether err is what a wrong clock looks like.
func (c *end) skewed(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) || c.http.Skew().Abs() < skewLimit {
		return false
	}
	switch api.ErrorCode() {
	case "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed", "AuthFailure", "InvalidSignatureException", "AccessDenied":
		return true
	}
	return false
}

// explain turns an error of the SDK into ours, with the upstream's own code
// and request id and none of the secrets.
func (c *end) explain(op string, err error, secrets ...credential.Secret) error {
	e := &source.Error{Op: op}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) {
		e.Status, e.RequestID = resp.HTTPStatusCode(), upstream.Clean(resp.ServiceRequestID())
		if r := resp.HTTPResponse(); r != nil {
			e.RetryAfter = upstream.RetryAfter(r.Header)
		}
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		// No answer, or one that could not be read. The SDK's text repeats
		// the operation and the endpoint; its innermost cause says it all.
		e.Message = upstream.Clean(c.cause(err), secrets...)
		e.Err, e.Hint = err, upstream.Advice(err)
		return e
	}
	e.Code = upstream.Clean(api.ErrorCode(), secrets...)
	e.Message = upstream.Clean(api.ErrorMessage(), secrets...)
	e.Hint = hints[e.Code]
	switch {
	case e.Code == "AccessDenied" || e.Code == "AccessDeniedException":
		e.Kind = source.ErrAccessDenied
	case transient[e.Code], later[e.Code], e.Status < 400, e.Status >= 500, e.Status == 408, e.Status == 429:
	default:
		e.Kind = source.ErrRefused
	}
	if e.Code == "UnknownError" {
		e.Code, e.Message = "", fmt.Sprintf("HTTP status %d, and not in the form of STS", e.Status)
		e.Hint = "check the endpoint, and whether a proxy answers in its place"
	}
	if skew := c.http.Skew(); skew.Abs() >= skewLimit {
		e.Hint = fmt.Sprintf("this host's clock is off by %v: set it right", (-skew).Round(time.Second))
	}
	return e
}

// bad describes an answer that was no error and yet is of no use.
func bad(op, requestID string, err error) error {
	return &source.Error{Op: op, RequestID: requestID, Err: err,
		Hint: "the upstream is faulty; what it gave was not used"}
}

// cause is what a person reads of a call without an answer: "connection
// refused" and not the six layers around it.
func (c *end) cause(err error) string {
	var network interface {
		error
		Timeout() bool
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %v", c.http.Timeout())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before there was an answer"
	case errors.As(err, &network): // it names the address
		return network.Error()
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error()
}
