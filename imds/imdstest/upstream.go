package imdstest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/rotation/credential"
)

// Example is AWS's own example of a credential.
func Example(from time.Time, life time.Duration) credential.Credential {
	return credential.Credential{
		AccessKeyID: "AKIAIOSFODNN7EXAMPLE",
		SecretKey:   credential.NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
		Token:       credential.NewSecret("FwoGZXIvYXdzEXAMPLETOKEN=="),
		Issued:      from, Expires: from.Add(life),
	}
}

// Endless is Example without an end: static keys of a test, MinIO without STS.
func Endless(from time.Time) credential.Credential {
	c := Example(from, 0)
	c.Token, c.Expires = credential.Secret{}, time.Time{}
	return c
}

// Credentials are what rotation looks like to a gate: what was told last is
// asked at once and whenever news come, as long as it says that there is
// nothing yet.
type Credentials struct {
	// For changes a credential for whom it is asked; nil changes none.
	For func(credential.Credential, credential.Key) credential.Credential

	mu   sync.Mutex
	get  func() (credential.Credential, error) // guarded by mu
	news chan struct{}                         // guarded by mu; closed and replaced by Publish
}

// NewCredentials are Credentials that say what get says.
func NewCredentials(get func() (credential.Credential, error)) *Credentials {
	return &Credentials{get: get, news: make(chan struct{})}
}

// Publish is the news that get says something else from now on.
func (c *Credentials) Publish(get func() (credential.Credential, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.get = get
	close(c.news)
	c.news = make(chan struct{})
}

// Credential waits, until ctx ends, while there is nothing yet.
func (c *Credentials) Credential(ctx context.Context, key credential.Key) (credential.Credential, error) {
	for {
		c.mu.Lock()
		get, news := c.get, c.news
		c.mu.Unlock()
		got, err := get()
		if err == nil || errors.Is(err, gate.ErrRefused) {
			if c.For != nil {
				got = c.For(got, key)
			}
			return got, err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return credential.Credential{}, err
		}
	}
}

// Always says that there is c.
func Always(c credential.Credential) func() (credential.Credential, error) {
	return func() (credential.Credential, error) { return c, nil }
}

// Never says that there is none, because of err.
func Never(err error) func() (credential.Credential, error) {
	return func() (credential.Credential, error) { return credential.Credential{}, err }
}

// Again are new Credentials that say the same. A bubble of synctest needs some
// that were made in it.
func (c *Credentials) Again() *Credentials {
	c.mu.Lock()
	defer c.mu.Unlock()
	return NewCredentials(c.get)
}
