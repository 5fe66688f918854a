package cognito

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// A request has the parameters of all three calls.
type request struct {
	AccountID  string            `json:"AccountId,omitempty"`
	PoolID     string            `json:"IdentityPoolId,omitempty"`
	IdentityID string            `json:"IdentityId,omitempty"`
	RoleARN    string            `json:"CustomRoleArn,omitempty"`
	Logins     map[string]string `json:"Logins,omitempty"`
}

// call makes one call and returns the service's name for it. An identity
// without a login is known by its id alone, so that no error tells it.
func (s *Source) call(ctx context.Context, action string, in request, login assertion.Token, out any) (requestID string, err error) {
	endpoint, err := s.endpoint()
	if err != nil {
		return "", err
	}
	secrets := []credential.Secret{login.Text, credential.NewSecret(in.IdentityID)}
	if s.Token != nil {
		in.Logins = map[string]string{s.Provider: login.Text.Reveal()}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.op(action), err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("endpoint: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "AWSCognitoIdentityService."+action)
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return "", &source.Error{Op: s.op(action), Message: upstream.Clean(err.Error(), secrets...), Err: err}
	}
	text, err := io.ReadAll(resp.Body) // it is in memory
	_ = resp.Body.Close()
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", s.op(action), err)
	case resp.StatusCode != http.StatusOK:
		return "", s.explain(action, resp, text, login, secrets)
	}
	if err := parse(text, out); err != nil {
		return "", s.bad(action, err)
	}
	return upstream.Clean(resp.Header.Get(requestHeader)), nil
}

func (s *Source) op(action string) string { return action + " of " + s.PoolID }

// bad describes an answer that was no error and yet is of no use.
func (s *Source) bad(action string, err error) error {
	return &source.Error{Op: s.op(action), Err: err, Hint: "the upstream is faulty; what it gave was not used"}
}

const requestHeader = "X-Amzn-Requestid"

// transient are the codes worth another try at once. They come as a 400.
var transient = map[string]bool{"TooManyRequestsException": true, "InternalErrorException": true, "ExternalServiceException": true, "ThrottlingException": true}

// Transient is the rule for [upstream.Options.Transient]: it reports whether
// an answer of Cognito is worth another try at once.
func Transient(_ int, body []byte) bool {
	code, _ := refusal("", body)
	return transient[code]
}

// refusal reads the code and the message of an answer that is no success.
func refusal(header string, text []byte) (code, message string) {
	var doc struct {
		Type    string `json:"__type"`
		Message string
	}
	_ = json.Unmarshal(text, &doc) // what is no JSON has no code
	code, _, _ = strings.Cut(cmp.Or(doc.Type, header), ":")
	return code[strings.LastIndexByte(code, '#')+1:], doc.Message
}

var hints = map[string]string{
	"NotAuthorizedException":                    "check that the pool knows the provider, and that the token is for it and has not ended",
	"InvalidIdentityPoolConfigurationException": "check the pool's roles: each must let cognito-identity.amazonaws.com do AssumeRoleWithWebIdentity",
	"ResourceNotFoundException":                 "check identity_pool_id and its region",
	"InvalidParameterException":                 "check identity_pool_id, the provider's name, and that the pool allows the flow",
}

// explain turns a refusal into an error of ours, with the service's own code
// and none of the secrets.
func (s *Source) explain(action string, resp *http.Response, text []byte, login assertion.Token, secrets []credential.Secret) error {
	code, message := refusal(resp.Header.Get("X-Amzn-Errortype"), text)
	e := &source.Error{
		Op: s.op(action), Code: upstream.Clean(code, secrets...), Message: upstream.Clean(message, secrets...), Status: resp.StatusCode,
		RequestID: upstream.Clean(resp.Header.Get(requestHeader)), RetryAfter: upstream.RetryAfter(resp.Header), Hint: hints[code],
	}
	switch {
	case code == "":
		e.Message = fmt.Sprintf("HTTP status %d, and not in the form of Cognito", resp.StatusCode)
		e.Hint = "check the endpoint, and whether a proxy answers in its place"
	case transient[code], e.Status < 400, e.Status >= 500, e.Status == 408, e.Status == 429:
	case code == "NotAuthorizedException":
		e.Kind = source.ErrAccessDenied
	default:
		e.Kind = source.ErrRefused
	}
	if e.Kind != nil && s.Token != nil {
		// A wrong audience and an old token all read alike without it.
		e.Hint = strings.TrimPrefix(e.Hint+"; shown was a "+login.Describe(s.Now()), "; ")
	}
	return e
}
