package ec2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/ec2"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/metadata"
	"github.com/hostrole/hostrole/rotation/credential"
)

// A newest is the least that a reader can meet: one atomic load.
type newest struct {
	atomic.Pointer[credential.Credential]
}

func (n *newest) Credential(context.Context, credential.Key) (credential.Credential, error) {
	return *n.Load(), nil
}

// plain is a handler of version 1 with that many roles, all the caller's.
func plain(n int, c gate.Credentials) *ec2.Handler {
	all := make([]gate.Role, n)
	ids := make([]string, n)
	for i := range all {
		ids[i] = fmt.Sprintf("role-%d", i)
		all[i] = gate.Role{ID: ids[i], Name: ids[i], ARN: "arn:aws:iam::111122223333:role/" + ids[i]}
	}
	keys := map[string]credential.Key{}
	for _, id := range ids {
		keys[id] = credential.NewKey(id)
	}
	tree, err := metadata.New(leaves)
	if err != nil {
		panic(err)
	}
	return ec2.New(ec2.Options{
		Tree: func() *metadata.Tree { return tree },
		Gate: gate.New(gate.Options{
			Policy:      func(caller.Caller) gate.Verdict { return gate.Verdict{Rule: "all", Roles: ids} },
			Roles:       all,
			Keys:        func(role string, _ caller.Caller) (credential.Key, error) { return keys[role], nil },
			Credentials: c, Record: func(gate.Event) error { return nil },
		}),
		Sealer: setting{}.sealer(), Tokens: ec2.Optional, Started: started, Now: func() time.Time { return started },
	})
}

func oneCredential() *newest {
	var n newest
	c := example(issued, 6*time.Hour)
	n.Store(&c)
	return &n
}

func ask(role int) *imds.Request {
	return &imds.Request{Method: "GET", Path: fmt.Sprintf("%srole-%d", iamPath, role), Caller: caller.Caller{UID: caller.NewID(1000)}}
}

// The limit is what the path allocates today: the context of the hold, the
// header of the document, its body, and the credential's ID for the record.
const credentialAllocs = 9

func TestCredentialAllocations(t *testing.T) {
	var first float64
	for _, n := range []int{1, 10, 1000} {
		h, r := plain(n, oneCredential()), ask(n-1)
		if a := h.Serve(t.Context(), r); a.Status != 200 {
			t.Fatalf("status %d", a.Status)
		}
		got := testing.AllocsPerRun(200, func() { h.Serve(t.Context(), r) })
		if n == 1 {
			first = got
		}
		if got > credentialAllocs || got != first {
			t.Errorf("with %d roles a credential takes %v allocations, with 1 it takes %v; the limit is %d", n, got, first, credentialAllocs)
		}
	}
}

// A generation is stamped into all of a document that can be read.
func generation(n int64) *credential.Credential {
	return &credential.Credential{
		AccessKeyID: fmt.Sprintf("ASIA%016d", n),
		SecretKey:   credential.NewSecret(fmt.Sprintf("secret-%016d", n)),
		Token:       credential.NewSecret(fmt.Sprintf("token-%016d", n)),
		Issued:      issued, Expires: issued.Add(time.Duration(n) * time.Second),
	}
}

func rendered(n int64) []byte {
	return fmt.Appendf(nil, `{
  "Code" : "Success",
  "LastUpdated" : "2026-01-02T03:04:05Z",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "ASIA%016d",
  "SecretAccessKey" : "secret-%016d",
  "Token" : "token-%016d",
  "Expiration" : "%s"
}`, n, n, n, issued.Add(time.Duration(n)*time.Second).Format(time.RFC3339))
}

// 10 000 readers at once, and a rotation as soon as one of them has seen the
// last: every document is of one generation.
func TestReadersNeverSeeHalfARotation(t *testing.T) {
	t.Parallel()
	const readers, generations = 10_000, 100
	var n newest
	n.Store(generation(1))
	h, r := plain(1, &n), ask(0)
	var last atomic.Int64
	var all sync.WaitGroup
	start := make(chan struct{})
	for range readers {
		all.Go(func() {
			<-start
			for key := int64(0); key < generations; {
				body := h.Serve(t.Context(), r).Body
				_, after, _ := bytes.Cut(body, []byte(`"AccessKeyId" : "ASIA`))
				var err error
				key, err = strconv.ParseInt(string(after[:min(16, len(after))]), 10, 64)
				if err != nil || !bytes.Equal(body, rendered(key)) {
					t.Errorf("a document is not of one generation:\n%s", body)
					return
				}
				if last.CompareAndSwap(key-1, key) {
					n.Store(generation(key + 1))
				}
			}
		})
	}
	close(start)
	all.Wait()
	if got := last.Load(); got < generations {
		t.Errorf("the readers saw %d generations of %d", got, generations)
	}
}

func BenchmarkCredentialsHandler(b *testing.B) {
	h, r := plain(1, oneCredential()), ask(0)
	b.ReportAllocs()
	for b.Loop() {
		if h.Serve(b.Context(), r).Status != 200 {
			b.Fatal("no credential")
		}
	}
}

// Through the whole server, in memory: one connection a request. The
// connection's own share is that of a HEAD of the root without a token, below.
func BenchmarkCredentialsServer(b *testing.B) {
	l := serve(b, setting{roles: []string{"app"}})
	tok, err := client(l).Token(b.Context(), 21600)
	if err != nil {
		b.Fatal(err)
	}
	exchange(b, "GET "+appPath+" HTTP/1.1\r\nHost: 169.254.169.254\r\nAccept-Encoding: identity\r\nUser-Agent: bench\r\nX-aws-ec2-metadata-token: "+tok+"\r\n\r\n", "HTTP/1.1 200", setting{roles: []string{"app"}})
}

func BenchmarkUnauthorizedServer(b *testing.B) {
	exchange(b, "HEAD / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", "HTTP/1.1 401", setting{})
}

func BenchmarkTokenServer(b *testing.B) {
	exchange(b, "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n", "HTTP/1.1 200", setting{})
}

func exchange(b *testing.B, raw, want string, s setting) {
	l := serve(b, s)
	buf := make([]byte, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		conn, err := l.Dial(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.WriteString(conn, raw); err != nil {
			b.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil || string(buf[:min(n, len(want))]) != want {
			b.Fatalf("%q and %v", buf[:n], err)
		}
		if _, err := conn.Read(buf); !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		_ = conn.Close()
	}
}
