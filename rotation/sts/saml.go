package sts

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/hostrole/hostrole/rotation/credential"
)

// AssumeRoleWithSAML exchanges a SAML response, base64 of the whole of it, for
// a session of a role. provider is the ARN of the account's SAML provider. The
// session's name, tags and source identity are what the response says, not
// what s says. The call is not signed. Errors are of type [source.Error].
func (c *Client) AssumeRoleWithSAML(ctx context.Context, response credential.Secret, provider string, s Session) (credential.Credential, error) {
	op := "AssumeRoleWithSAML " + s.RoleARN
	return c.ask(ctx, op, func(e *end) (credential.Credential, error) { return e.withSAML(ctx, op, response, provider, s) })
}

func (c *end) withSAML(ctx context.Context, op string, response credential.Secret, provider string, s Session) (credential.Credential, error) {
	out, err := c.api.AssumeRoleWithSAML(ctx, &sts.AssumeRoleWithSAMLInput{
		RoleArn: &s.RoleARN, PrincipalArn: &provider,
		DurationSeconds: seconds(s.Duration),
		SAMLAssertion:   aws.String(response.Reveal()),
		Policy:          optional(s.Policy), PolicyArns: policyARNs(s.PolicyARNs),
	})
	if err != nil {
		return credential.Credential{}, c.explain(op, err, response)
	}
	return c.accept(op, s, out.Credentials, out.AssumedRoleUser, out.ResultMetadata)
}
