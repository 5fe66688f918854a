// Package process is the source that runs any credential_process program.
//
// # Why not
//
// Not the SDK's processcreds: it runs the program through a shell and repeats
// its output in errors.
package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hostrole/hostrole/rotation/command"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// Source is a program that prints credential_process JSON, version 1.
type Source struct {
	Command command.Command
	Now     func() time.Time
	Boot    func() time.Duration
}

var _ source.Source = Source{}

// Fetch runs the program once. A document without Expiration is of a
// credential that never expires.
func (s Source) Fetch(ctx context.Context) (credential.Credential, error) {
	out, err := s.Command.Output(ctx)
	if err != nil {
		return credential.Credential{}, err
	}
	c, err := parse(out)
	if err == nil {
		c.Issued, c.Received = s.Now(), s.Boot()
		err = credential.Check(c)
	}
	if err != nil {
		return credential.Credential{}, fmt.Errorf("what %s printed is of no use: %w", s.Command.Argv[0], err)
	}
	return c, nil
}

// parse reads the document. Its errors quote nothing of it: the decoder's own
// would.
func parse(out []byte) (credential.Credential, error) {
	var doc struct {
		Version                                              any
		AccessKeyID                                          string `json:"AccessKeyId"`
		SecretAccessKey, SessionToken, Expiration, AccountID string
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return credential.Credential{}, errors.New("it is not the JSON of credential_process")
	}
	if doc.Version != float64(1) {
		return credential.Credential{}, errors.New("its Version is not the number 1")
	}
	c := credential.Credential{
		AccessKeyID: doc.AccessKeyID,
		SecretKey:   credential.NewSecret(doc.SecretAccessKey),
		Token:       credential.NewSecret(doc.SessionToken),
		AccountID:   doc.AccountID,
	}
	if doc.Expiration != "" {
		t, err := time.Parse(time.RFC3339, doc.Expiration)
		if err != nil {
			return credential.Credential{}, errors.New("its Expiration is not an ISO 8601 time such as 2026-01-02T15:04:05Z")
		}
		c.Expires = t.UTC()
	}
	return c, nil
}
