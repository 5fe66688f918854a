// Package sts makes STS calls on AWS's own client, with one retry layer below
// it and nothing ambient.
//
// # Why not
//
// Not the SDK's config package: its default chain ends at 169.254.169.254, our
// own address, so that the daemon would ask itself; it also reads AWS_*
// variables and a home directory. Not stscreds: it names sessions by the
// clock, asks for 15 minutes, and hides the request id of a refusal. Not a
// client per call: the SDK keeps the measured clock skew in the client.
package sts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// Options says which STS a Client talks to. Every field but Endpoint
// and Fallback is required.
type Options struct {
	Region   string // signs the requests, and names AWS's endpoint
	Endpoint string // URL of an STS; "" is AWS's regional endpoint
	HTTP     *upstream.Client
	Now      func() time.Time     // wall clock, for answers without a Date
	Boot     func() time.Duration // time since boot, suspend included
	Fallback *Fallback            // asked while the first does not answer; nil for none
}

// A Client talks to one STS, or to the other one where it has a Fallback. It
// may be used concurrently.
type Client struct {
	first, second *end // second is nil without a fallback
	over          *Fallback
	boot          func() time.Duration
}

// New returns a Client. It makes no call.
func New(o Options) *Client {
	c := &Client{first: newEnd(o, o.Region, o.Endpoint, o.HTTP), boot: o.Boot}
	if f := o.Fallback; f != nil {
		c.second, c.over = newEnd(o, f.Region, f.Endpoint, f.HTTP), f
	}
	return c
}

// An end is one STS.
type end struct {
	name string // for people
	api  *sts.Client
	http *upstream.Client
	now  func() time.Time
	boot func() time.Duration
}

func newEnd(o Options, region, endpoint string, http *upstream.Client) *end {
	opts := sts.Options{
		Region: region, HTTPClient: errorForm{http},
		Credentials: aws.AnonymousCredentials{}, HTTPSignerV4: signer{},
		Retryer: aws.NopRetryer{}, // go-retryablehttp below is the one layer that retries
	}
	e := &end{name: "STS in " + region, http: http, now: o.Now, boot: o.Boot}
	if endpoint != "" {
		opts.BaseEndpoint = aws.String(endpoint)
		e.name = endpoint
	}
	e.api = sts.New(opts)
	return e
}

// A Tag is one session tag.
type Tag struct{ Key, Value string }

// A Session is all that distinguishes one session of a role from another.
type Session struct {
	RoleARN        string
	Name           string // RoleSessionName: 2 to 64 characters of [\w+=,.@-]
	Duration       time.Duration
	ExternalID     string   // AssumeRole only; "" for none
	ProviderID     string   // AssumeRoleWithWebIdentity only: of the OAuth provider whose access token is shown; "" for an OIDC token
	SourceIdentity string   // AssumeRole only; "" for none
	Policy         string   // JSON; "" for none
	PolicyARNs     []string // at most 10
	Tags           []Tag    // AssumeRole only; at most 50
	TransitiveTags []string // AssumeRole only; keys of Tags
}

// AssumeRole exchanges base for a session of a role. Errors are of type
// [source.Error].
func (c *Client) AssumeRole(ctx context.Context, base credential.Credential, s Session) (credential.Credential, error) {
	op := "AssumeRole " + s.RoleARN
	return c.ask(ctx, op, func(e *end) (credential.Credential, error) { return e.assumeRole(ctx, op, base, s) })
}

func (c *end) assumeRole(ctx context.Context, op string, base credential.Credential, s Session) (credential.Credential, error) {
	in := &sts.AssumeRoleInput{
		RoleArn: &s.RoleARN, RoleSessionName: &s.Name,
		DurationSeconds: seconds(s.Duration),
		ExternalId:      optional(s.ExternalID), SourceIdentity: optional(s.SourceIdentity),
		Policy: optional(s.Policy), PolicyArns: policyARNs(s.PolicyARNs),
		TransitiveTagKeys: s.TransitiveTags,
	}
	for _, t := range s.Tags {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(t.Key), Value: aws.String(t.Value)})
	}
	signer := aws.Credentials{AccessKeyID: base.AccessKeyID, SecretAccessKey: base.SecretKey.Reveal(), SessionToken: base.Token.Reveal()}
	signed := func(o *sts.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return signer, nil })
	}
	out, err := c.api.AssumeRole(ctx, in, signed)
	if err != nil && c.skewed(err) {
		// The failed call measured the skew; the next one is signed with it.
		out, err = c.api.AssumeRole(ctx, in, signed)
	}
	if err != nil {
		return credential.Credential{}, c.explain(op, err, base.SecretKey, base.Token)
	}
	return c.accept(op, s, out.Credentials, out.AssumedRoleUser, out.ResultMetadata)
}

// AssumeRoleWithWebIdentity exchanges an identity provider's token for a
// session of a role. The call is not signed. Errors are of type
// [source.Error].
func (c *Client) AssumeRoleWithWebIdentity(ctx context.Context, token credential.Secret, s Session) (credential.Credential, error) {
	op := "AssumeRoleWithWebIdentity " + s.RoleARN
	return c.ask(ctx, op, func(e *end) (credential.Credential, error) { return e.withWebIdentity(ctx, op, token, s) })
}

func (c *end) withWebIdentity(ctx context.Context, op string, token credential.Secret, s Session) (credential.Credential, error) {
	out, err := c.api.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: &s.RoleARN, RoleSessionName: &s.Name,
		DurationSeconds:  seconds(s.Duration),
		WebIdentityToken: aws.String(token.Reveal()), ProviderId: optional(s.ProviderID),
		Policy: optional(s.Policy), PolicyArns: policyARNs(s.PolicyARNs),
	})
	if err != nil {
		return credential.Credential{}, c.explain(op, err, token)
	}
	return c.accept(op, s, out.Credentials, out.AssumedRoleUser, out.ResultMetadata)
}

// accept checks an answer before anybody may use it. A 200 without
// credentials is no error to the SDK.
func (c *end) accept(op string, s Session, got *types.Credentials, user *types.AssumedRoleUser, meta middleware.Metadata) (credential.Credential, error) {
	requestID, _ := awsmiddleware.GetRequestIDMetadata(meta)
	issued, ok := awsmiddleware.GetServerTime(meta)
	if !ok {
		issued = c.now().Add(c.http.Skew())
	}
	cred := credential.Credential{RoleARN: s.RoleARN, RequestID: requestID, Issued: issued.UTC(), Received: c.boot(), Endpoint: answered(meta)}
	if got != nil {
		cred.AccessKeyID = aws.ToString(got.AccessKeyId)
		cred.SecretKey = credential.NewSecret(aws.ToString(got.SecretAccessKey))
		cred.Token = credential.NewSecret(aws.ToString(got.SessionToken))
		cred.Expires = aws.ToTime(got.Expiration).UTC()
	}
	cred.AccountID = accountOf(s.RoleARN)
	if user != nil {
		arn := aws.ToString(user.Arn)
		if err := sameRole(s.RoleARN, arn); err != nil {
			return credential.Credential{}, bad(op, requestID, err)
		}
		if a := accountOf(arn); a != "" {
			cred.AccountID = a
		}
	}
	switch {
	case got == nil:
		return credential.Credential{}, bad(op, requestID, errors.New("the answer has no credentials"))
	case cred.Token.Empty():
		return credential.Credential{}, bad(op, requestID, errors.New("the answer has no session token"))
	case got.Expiration == nil:
		return credential.Credential{}, bad(op, requestID, errors.New("the answer has no expiration"))
	}
	if err := credential.Check(cred); err != nil {
		return credential.Credential{}, bad(op, requestID, err)
	}
	// A session of seconds is what some tests ask for; to get one when
	// minutes were asked for is a fault of the upstream.
	if life := cred.Expires.Sub(cred.Issued); life < time.Minute && life < s.Duration/2 {
		return credential.Credential{}, bad(op, requestID, fmt.Errorf("the credentials live %v only; %v were asked for", life, s.Duration))
	}
	return cred, nil
}

// answered is the host that gave an answer.
func answered(meta middleware.Metadata) string {
	if raw, ok := awsmiddleware.GetRawResponse(meta).(*smithyhttp.Response); ok && raw.Request != nil {
		return raw.Request.URL.Host
	}
	return ""
}

// sameRole holds an answer against the question. The path of a role is not
// part of an assumed-role ARN; servers other than AWS leave out the account or
// the whole ARN, or write it in a form of their own.
func sameRole(asked, got string) error {
	p := strings.SplitN(got, ":", 6)
	if len(p) != 6 {
		return nil
	}
	session := strings.Split(p[5], "/")
	if len(session) != 3 || session[0] != "assumed-role" {
		return nil
	}
	name := asked[strings.LastIndexByte(asked, '/')+1:]
	if a := accountOf(asked); session[1] != name || a != "" && p[4] != "" && p[4] != a {
		return fmt.Errorf("the answer is for another role, %s", upstream.Clean(got))
	}
	return nil
}

func accountOf(arn string) string {
	if p := strings.SplitN(arn, ":", 6); len(p) == 6 {
		return p[4]
	}
	return ""
}

func seconds(d time.Duration) *int32 { return aws.Int32(int32(d / time.Second)) } // #nosec G115 -- the config allows a year

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func policyARNs(arns []string) []types.PolicyDescriptorType {
	var out []types.PolicyDescriptorType
	for _, a := range arns {
		out = append(out, types.PolicyDescriptorType{Arn: aws.String(a)})
	}
	return out
}
