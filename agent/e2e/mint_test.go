//go:build linux

package e2e_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A mint is an upstream whose keys work at MinIO and die soon: a session of
// MinIO lasts a quarter of an hour at least, so that its end is announced here,
// and kept by the witness.
type mint struct {
	url string
	w   *witness

	mu   sync.Mutex
	life time.Duration // guarded by mu
	away bool          // guarded by mu
	last time.Time     // when the newest key ends; guarded by mu
	keys []string      // guarded by mu
}

// newMint serves credential_process documents until the test ends.
func newMint(t *testing.T, w *witness, life time.Duration) *mint {
	t.Helper()
	m := &mint{w: w, life: life}
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	m.url = s.URL
	return m
}

func (m *mint) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		http.Error(out, "away", http.StatusServiceUnavailable)
		return
	}
	doc, err := minioSession(r.Context())
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	m.last = time.Now().Add(m.life).Truncate(time.Second)
	m.w.outlive(doc.AccessKeyId, m.last)
	m.keys = append(m.keys, doc.AccessKeyId)
	_ = json.NewEncoder(out).Encode(map[string]any{"Version": 1, "AccessKeyId": doc.AccessKeyId, "SecretAccessKey": doc.SecretAccessKey,
		"SessionToken": doc.Token, "Expiration": m.last.UTC().Format(time.RFC3339)})
}

// leave makes the mint refuse, or not, and returns when its last key ends.
func (m *mint) leave(away bool) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
	return m.last
}

// mint changes how long the next keys live.
func (m *mint) mint(life time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life = life
}

// die ends all keys.
func (m *mint) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.keys {
		m.w.outlive(k, time.Now())
	}
}

// ends is when the newest key does.
func (m *mint) ends() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// minioSession assumes a role of MinIO.
func minioSession(ctx context.Context) (doc document, err error) {
	const body = "Action=AssumeRole&DurationSeconds=3600&Version=2011-06-15"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, minioURL+"/", strings.NewReader(body))
	if err != nil {
		return doc, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256([]byte(body))
	keys := aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), "sts", "us-east-1", time.Now()); err != nil {
		return doc, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return doc, err
	}
	defer func() { _ = resp.Body.Close() }()
	var got struct {
		Credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string } `xml:"AssumeRoleResult>Credentials"`
	}
	if err := xml.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK {
		return doc, fmt.Errorf("MinIO's STS answered with %d (%w)", resp.StatusCode, err)
	}
	c := got.Credentials
	return document{AccessKeyId: c.AccessKeyId, SecretAccessKey: c.SecretAccessKey, Token: c.SessionToken}, nil
}
