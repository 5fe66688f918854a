// Package rolesanywhere is the source that signs with the key of an X.509
// certificate and is given a session of a role by IAM Roles Anywhere.
//
// # Why not
//
// Not AWS's own program as a library: it needs cgo, asks for a password on the
// terminal, and ends the process from within the signer. Not aws/signer/v4: it
// derives an HMAC key and has no place for a private one; what is left, the
// canonical form of one fixed request, is twenty lines. Not the ARNs in the
// query, where a proxy keeps them in its log: the service takes them in the
// body as well. Not PKCS#11 and TPM libraries: a signer command does for every
// key that cannot be read, and its crash is not ours.
package rolesanywhere

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// Source shows a certificate and is given a session of a role.
type Source struct {
	Identity       Identity
	HTTP           *upstream.Client
	Endpoint       string // URL without a path; "" is AWS's endpoint in the region of TrustAnchorARN
	TrustAnchorARN string // its region is where the session is made; the profile must be there, too
	ProfileARN     string
	RoleARN        string
	SessionName    string        // only where the profile accepts one; "" is the certificate's serial number
	Duration       time.Duration // 15m to 12h; 0 is the profile's
	Now            func() time.Time
	Boot           func() time.Duration
	Ends           func(time.Time) // is told at each use when the certificate that is shown ends; nil: nobody is
}

var _ source.Source = Source{}

// Fetch reads the certificate and makes one session, with a second call when
// the first one has shown that this host's clock is wrong. A refusal tells
// which certificate was shown. Errors of the service are of type
// [source.Error].
func (s Source) Fetch(ctx context.Context) (credential.Credential, error) {
	if err := ctx.Err(); err != nil {
		return credential.Credential{}, err
	}
	id, err := s.Identity.read()
	if err != nil {
		return credential.Credential{}, err
	}
	if s.Ends != nil {
		s.Ends(id.leaf.NotAfter.UTC())
	}
	before := s.HTTP.Skew()
	c, err := s.create(ctx, id)
	if learnt := s.HTTP.Skew(); err != nil && (learnt-before).Abs() >= skewLimit {
		c, err = s.create(ctx, id)
	}
	var e *source.Error
	if errors.As(err, &e) && e.Kind != nil {
		e.Hint = joined(e.Hint, "shown was "+id.describe(s.now()))
	}
	return c, err
}

// now is the time by the service's clock, as far as it is known.
func (s Source) now() time.Time { return s.Now().Add(s.HTTP.Skew()).UTC() }

// create makes one call.
func (s Source) create(ctx context.Context, id *identity) (credential.Credential, error) {
	endpoint, region, err := s.place()
	if err != nil {
		return credential.Credential{}, err
	}
	body, err := json.Marshal(struct {
		Duration    int64  `json:"durationSeconds,omitempty"`
		Profile     string `json:"profileArn"`
		Role        string `json:"roleArn"`
		TrustAnchor string `json:"trustAnchorArn"`
		SessionName string `json:"roleSessionName,omitempty"`
	}{int64(s.Duration / time.Second), s.ProfileARN, s.RoleARN, s.TrustAnchorARN, s.SessionName})
	if err != nil {
		return credential.Credential{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/sessions", bytes.NewReader(body))
	if err != nil {
		return credential.Credential{}, fmt.Errorf("endpoint: %w", err)
	}
	if err := id.authorize(ctx, req, body, region, s.now()); err != nil {
		return credential.Credential{}, err
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return credential.Credential{}, &source.Error{Op: s.op(), Message: upstream.Clean(err.Error()), Err: err}
	}
	text, err := io.ReadAll(resp.Body) // it is in memory
	_ = resp.Body.Close()
	if err != nil {
		return credential.Credential{}, fmt.Errorf("%s: %w", s.op(), err)
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		return credential.Credential{}, s.explain(resp, text)
	}
	c, err := parse(text, s.RoleARN)
	if err == nil {
		c.RequestID = upstream.Clean(resp.Header.Get(requestID))
		c.Issued, c.Received, c.Endpoint = s.now(), s.Boot(), req.URL.Host
		err = credential.Check(c)
	}
	if err != nil {
		return credential.Credential{}, &source.Error{Op: s.op(), RequestID: upstream.Clean(resp.Header.Get(requestID)), Err: err,
			Hint: "the upstream is faulty; what it gave was not used"}
	}
	return c, nil
}

func (s Source) op() string { return "CreateSession " + s.RoleARN }

// parse reads an answer. Its errors quote nothing of it: the decoder's own
// would.
func parse(text []byte, role string) (credential.Credential, error) {
	var doc struct {
		CredentialSet []struct {
			Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken, Expiration string }
			RoleARN     string
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return credential.Credential{}, errors.New("the answer is not the JSON of CreateSession")
	}
	if len(doc.CredentialSet) == 0 {
		return credential.Credential{}, errors.New("the answer has no credentials")
	}
	set := doc.CredentialSet[0]
	expires, err := time.Parse(time.RFC3339, set.Credentials.Expiration)
	switch {
	case set.Credentials.SessionToken == "":
		return credential.Credential{}, errors.New("the answer has no session token")
	case err != nil:
		return credential.Credential{}, errors.New("the answer has no expiration that is a time")
	case cmp.Or(set.RoleARN, role) != role:
		return credential.Credential{}, fmt.Errorf("the answer is for another role, %s", upstream.Clean(set.RoleARN))
	}
	return credential.Credential{
		AccessKeyID: set.Credentials.AccessKeyID,
		SecretKey:   credential.NewSecret(set.Credentials.SecretAccessKey),
		Token:       credential.NewSecret(set.Credentials.SessionToken),
		RoleARN:     role,
		AccountID:   field(role, 4),
		Expires:     expires.UTC(),
	}, nil
}

// suffixes are the domains of AWS's partitions.
var suffixes = map[string]string{
	"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn", "aws-eusc": "amazonaws.eu",
	"aws-iso": "c2s.ic.gov", "aws-iso-b": "sc2s.sgov.gov", "aws-iso-e": "cloud.adc-e.uk", "aws-iso-f": "csp.hci.ic.gov",
}

// place tells which endpoint is called, and the region that is signed for.
func (s Source) place() (endpoint, region string, err error) {
	region = field(s.TrustAnchorARN, 3)
	suffix := suffixes[field(s.TrustAnchorARN, 1)]
	switch {
	case region == "":
		return "", "", fmt.Errorf("trust_anchor_arn %q has no region: it reads arn:aws:rolesanywhere:REGION:ACCOUNT:trust-anchor/ID", s.TrustAnchorARN)
	case field(s.ProfileARN, 3) != region:
		return "", "", fmt.Errorf("profile_arn %q is not in %s, the region of trust_anchor_arn: make the profile there", s.ProfileARN, region)
	case s.Endpoint != "":
		return strings.TrimRight(s.Endpoint, "/"), region, nil
	case suffix == "":
		return "", "", fmt.Errorf("the partition of trust_anchor_arn %q is not known: set endpoint", s.TrustAnchorARN)
	}
	return "https://rolesanywhere." + region + "." + suffix, region, nil
}

// field is one part of an ARN; "" when there is none.
func field(arn string, n int) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[n]
	}
	return ""
}
