package ecs

import (
	"encoding/json"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/rotation/credential"
)

// stamp is the only form of time that every SDK parses: UTC, whole seconds.
const stamp = "2006-01-02T15:04:05Z"

// endless is the expiry, from now, that a document shows for a credential that
// never expires: clients that find none come never back.
const endless = 6 * time.Hour

// keys is the document of a role, in the order of ECS's agent.
type keys struct {
	RoleArn         string // "" where the upstream fixes the role
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string // "" for long-term keys: some clients want it there
	Expiration      string
}

func (h *Handler) success(c credential.Credential) imds.Response {
	expires := c.Expires
	if expires.IsZero() {
		expires = h.o.Now().Add(endless)
	}
	return document(200, keys{
		RoleArn:         c.RoleARN,
		AccessKeyID:     c.AccessKeyID,
		SecretAccessKey: c.SecretKey.Reveal(),
		Token:           c.Token.Reveal(),
		Expiration:      expires.UTC().Format(stamp),
	})
}

// A version has the failures of one version of the protocol, in the words of
// ECS's agent. A role that the caller may not have is unknown to it.
type version struct{ noID, unknownID, notReady imds.Response }

var v1, v2 = newVersion("CredentialsV1Request: "), newVersion("CredentialsV2Request: ")

func newVersion(prefix string) *version {
	failure := func(status int, code, message string) imds.Response {
		return document(status, struct {
			Code          string `json:"code"`
			Message       string `json:"message"`
			HTTPErrorCode int
		}{code, prefix + message, status})
	}
	v := &version{
		noID:      failure(400, "NoIdInRequest", "No Credential ID in the request"),
		unknownID: failure(400, "InvalidIdInRequest", "Credentials not found"),
		notReady:  failure(503, "CredentialsUninitialized", "Credentials uninitialized for ID"),
	}
	v.notReady.Head = append(v.notReady.Head, imds.Field{Name: "Retry-After", Value: "1"})
	return v
}

// The failures that ECS's agent has not, or answers in plain text.
var (
	missing    = refusal(401, "MissingAuthorization", "The request has no Authorization header. Set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE or AWS_CONTAINER_AUTHORIZATION_TOKEN.")
	wrong      = refusal(403, "InvalidAuthorization", "The Authorization header of the request is not the one of this listener.")
	notFound   = refusal(404, "NotFound", "There are credentials at /role/NAME, /v2/credentials/NAME and /v1/credentials?id=NAME.")
	notAllowed = func() imds.Response {
		r := refusal(405, "MethodNotAllowed", "Credentials are read with GET.")
		r.Head = append(r.Head, imds.Field{Name: "Allow", Value: "GET, HEAD"})
		return r
	}()
)

// refusal has its keys twice: the SDKs for Go and Java show those in lower
// case, the one for JavaScript the others.
func refusal(status int, code, message string) imds.Response {
	return document(status, struct {
		LowerCode    string `json:"code"`
		LowerMessage string `json:"message"`
		Code         string
		Message      string
	}{code, message, code, message})
}

// document answers with v. The content type has no parameter: the SDK for Go
// reads no failure that is of another than exactly this.
func document(status int, v any) imds.Response {
	body, _ := json.Marshal(v) // structs of strings and numbers cannot fail
	return imds.Response{Status: status, Head: []imds.Field{{Name: "Content-Type", Value: "application/json"}}, Body: body}
}
