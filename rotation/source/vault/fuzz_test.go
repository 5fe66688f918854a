package vault_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source/vault"
	"github.com/hostrole/hostrole/rotation/upstream"
)

func FuzzAccept(f *testing.F) {
	s := vault.Source{HTTP: upstream.New(upstream.Options{Timeout: time.Second}), RoleARN: app, Now: now, Boot: func() time.Duration { return time.Hour }}
	f.Add(keys(`"session_token":"t","ttl":3600,"arn":"arn:aws:sts::111122223333:assumed-role/app/x"`))
	f.Add(`{"lease_id":"l","lease_duration":3600,"data":{"access_key":"AKIAIOSFODNN7EXAMPLE","secret_key":"s","security_token":null}}`)
	f.Add(`{"lease_duration":1e99}`)
	f.Add(`{"auth":{"client_token":"hvs.x"},"data":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := s.Accept([]byte(text))
		if err == nil && (credential.Check(c) != nil || c.Token.Empty() || !c.Expires.After(c.Issued)) {
			t.Errorf("half a credential: %+v", c)
		}
		if err != nil && len(text) > 250 && strings.Contains(err.Error(), text) {
			t.Error("the error quotes the answer")
		}
	})
}
