package ec2

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/rotation/credential"
)

// stamp is the only form of time that every SDK parses: UTC, whole seconds.
const stamp = "2006-01-02T15:04:05Z"

// endless is the expiry, from now, that a document shows for a credential that
// never expires. The field is not optional, and its reader should come back:
// EC2's own documents live about as long.
const endless = 6 * time.Hour

// iam serves what is below meta-data/iam/. A caller without a role finds
// nothing there, exactly as on a host without an instance profile.
func (h *Handler) iam(ctx context.Context, who caller.Caller, path string) imds.Response {
	if role, named := strings.CutPrefix(path, "security-credentials/"); named {
		return h.credentials(ctx, who, role)
	}
	own, ok := h.o.Gate.Own(endpoint, who)
	if !ok {
		return notFound
	}
	switch path {
	case "":
		return h.leaf("info\nsecurity-credentials/")
	case "info":
		return h.leaf(h.info(own))
	case "security-credentials":
		return h.leaf(own.Name)
	}
	return notFound
}

// info is the profile of a role: an instance profile has a name and an id of
// its own, and what reads this takes the account from the ARN.
func (h *Handler) info(role gate.Role) string {
	arn := "arn:aws:iam::" + h.o.AccountID + ":instance-profile/" + role.Name
	if partition, rest, ok := strings.Cut(strings.TrimPrefix(role.ARN, "arn:"), ":iam::"); ok && role.ARN != "" {
		account, _, _ := strings.Cut(rest, ":")
		if account == "" {
			account = h.o.AccountID
		}
		arn = "arn:" + partition + ":iam::" + account + ":instance-profile/" + role.Name
	}
	sum := sha256.Sum256([]byte(arn))
	id := "AIPA" + base32.StdEncoding.EncodeToString(sum[:])[:17]
	b := append([]byte{}, "{\n"...)
	b = appendField(b, "Code", "Success", ",\n")
	b = appendField(b, "LastUpdated", h.o.Started.UTC().Format(stamp), ",\n")
	b = appendField(b, "InstanceProfileArn", arn, ",\n")
	b = appendField(b, "InstanceProfileId", id, "\n}")
	return string(b)
}

func (h *Handler) credentials(ctx context.Context, who caller.Caller, role string) imds.Response {
	ctx, cancel := context.WithTimeout(ctx, hold)
	defer cancel()
	c, err := h.o.Gate.Credential(ctx, endpoint, who, role)
	switch {
	case err == nil:
		return imds.Response{Status: 200, Head: leafFields(c.Issued), Body: h.success(c)}
	case errors.Is(err, gate.ErrDenied):
		return notFound
	case errors.Is(err, gate.ErrRefused):
		return h.leaf(h.failure(err, role))
	default:
		// The body stays empty: the CRT takes the body of a 503 for data.
		resp := imds.Empty(503)
		resp.Head = []imds.Field{{Name: "Retry-After", Value: "1"}}
		return resp
	}
}

// success renders the document of c. No field needs escaping: see
// [credential.Check].
func (h *Handler) success(c credential.Credential) []byte {
	secret, session := c.SecretKey.Reveal(), c.Token.Reveal()
	expires := c.Expires
	if expires.IsZero() {
		expires = h.o.Now().Add(endless)
	}
	b := make([]byte, 0, 320+len(secret)+len(session))
	b = append(b, "{\n"...)
	b = appendField(b, "Code", "Success", ",\n")
	b = appendTime(b, "LastUpdated", c.Issued)
	b = appendField(b, "Type", "AWS-HMAC", ",\n")
	b = appendField(b, "AccessKeyId", c.AccessKeyID, ",\n")
	b = appendField(b, "SecretAccessKey", secret, ",\n")
	b = appendField(b, "Token", session, ",\n")
	b = append(b, `  "Expiration" : "`...)
	b = expires.UTC().AppendFormat(b, stamp)
	return append(b, "\"\n}"...)
}

// failure is the document for a definite no. A workload learns that there is
// one, and nothing of what the upstream said.
func (h *Handler) failure(err error, role string) string {
	code, message := "Failed", "The upstream of this host does not give credentials of the role "+role+"."
	if errors.Is(err, gate.ErrUnauthorized) {
		code = "AssumeRoleUnauthorizedAccess"
		message = "This host cannot assume the role " + role + ". See the documentation at https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_iam-ec2.html#troubleshoot_iam-ec2_errors-info-doc."
	}
	b := append([]byte{}, "{\n"...)
	b = appendField(b, "Code", code, ",\n")
	b = appendField(b, "Message", message, ",\n")
	b = appendField(b, "LastUpdated", h.o.Now().UTC().Format(stamp), "\n}")
	return string(b)
}

func appendField(b []byte, key, value, end string) []byte {
	b = append(b, `  "`...)
	b = append(b, key...)
	b = append(b, `" : "`...)
	b = append(b, value...)
	b = append(b, '"')
	return append(b, end...)
}

func appendTime(b []byte, key string, t time.Time) []byte {
	b = append(b, `  "`...)
	b = append(b, key...)
	b = append(b, `" : "`...)
	b = t.UTC().AppendFormat(b, stamp)
	return append(b, "\",\n"...)
}
