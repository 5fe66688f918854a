package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	awscreds "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
)

// keys is one set of credentials. It is never printed but for its id.
type keys struct {
	id, secret, token string
	expires           time.Time
}

// A client does S3 with the credentials that its SDK finds by itself.
type client interface {
	name() string // module path of the SDK
	keys(ctx context.Context) (keys, error)
	put(ctx context.Context, bucket, key string, body []byte) error
	get(ctx context.Context, bucket, key string) ([]byte, error)
	// with is the same client with fixed keys instead of a chain.
	with(k keys) client
	// status is the HTTP status that err is about, or 0.
	status(err error) int
}

// newClient returns the client of one SDK. window is how long before the
// expiry aws-sdk-go-v2 renews; minio-go renews at 80 % of the life by itself.
func newClient(ctx context.Context, kind, endpoint string, window time.Duration) (client, error) {
	switch kind {
	case "v2":
		var opts []func(*config.LoadOptions) error
		if window > 0 {
			// The SDK renews an instance's credentials when they expire, and
			// hands out what it has until then: right for the hours of EC2,
			// where the metadata service has the next set five minutes early.
			// With a session of seconds, a request that was signed in the last
			// instant arrives too late. ExpiryWindow is the SDK's own knob.
			opts = append(opts, config.WithCredentialsProvider(aws.NewCredentialsCache(
				ec2rolecreds.New(), func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = window })))
		}
		cfg, err := config.LoadDefaultConfig(ctx, opts...)
		if err != nil {
			return nil, err
		}
		return newV2(cfg, endpoint), nil
	case "v1":
		return newV1(endpoint)
	case "minio":
		return newMinio(endpoint, miniocreds.NewIAM(""))
	}
	return nil, fmt.Errorf("no client %q: it is v1, v2 or minio", kind)
}

// roundTrip puts an object into bucket and reads it back.
func roundTrip(ctx context.Context, c client, bucket, key string) error {
	want := []byte("written by " + c.name())
	if err := c.put(ctx, bucket, key, want); err != nil {
		return fmt.Errorf("putting an object: %w", err)
	}
	got, err := c.get(ctx, bucket, key)
	if err != nil {
		return fmt.Errorf("getting an object: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the object is %d bytes of something else", len(got))
	}
	return nil
}

// v2 is aws-sdk-go-v2.
type v2 struct {
	cfg      aws.Config
	endpoint string
	s3       *s3.Client
}

func (c *v2) name() string { return "github.com/aws/aws-sdk-go-v2" }

func (c *v2) keys(ctx context.Context) (keys, error) {
	v, err := c.cfg.Credentials.Retrieve(ctx)
	return keys{v.AccessKeyID, v.SecretAccessKey, v.SessionToken, v.Expires}, err
}

// newV2 makes the one S3 client: each has connections of its own, and a server
// has room for some thousands.
func newV2(cfg aws.Config, endpoint string) *v2 {
	return &v2{cfg, endpoint, s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.BaseEndpoint, o.UsePathStyle = &endpoint, true
		o.RetryMaxAttempts = 1 // a retry would hide a key that does not work
		// Ceph of Debian 12 does not know the checksums that are now default.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})}
}

func (c *v2) put(ctx context.Context, bucket, key string, body []byte) error {
	_, err := c.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)})
	return err
}

func (c *v2) get(ctx context.Context, bucket, key string) ([]byte, error) {
	o, err := c.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(o.Body)
	return b, errors.Join(err, o.Body.Close())
}

func (c *v2) with(k keys) client {
	cfg := c.cfg.Copy()
	cfg.Credentials = awscreds.NewStaticCredentialsProvider(k.id, k.secret, k.token)
	return newV2(cfg, c.endpoint)
}

func (c *v2) status(err error) int {
	var re *awshttp.ResponseError
	if errors.As(err, &re) {
		return re.HTTPStatusCode()
	}
	return 0
}

// minioGo is minio-go.
type minioGo struct {
	endpoint string
	creds    *miniocreds.Credentials
	s3       *minio.Client
}

func newMinio(endpoint string, creds *miniocreds.Credentials) (*minioGo, error) {
	c := &minioGo{endpoint: endpoint, creds: creds}
	if endpoint == "" { // only the keys are asked for
		return c, nil
	}
	var err error
	c.s3, err = minio.New(strings.TrimPrefix(endpoint, "http://"), &minio.Options{
		Creds: creds, Region: "us-east-1", BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
	})
	return c, err
}

func (c *minioGo) name() string { return "github.com/minio/minio-go/v7" }

func (c *minioGo) keys(context.Context) (keys, error) {
	v, err := c.creds.GetWithContext(&miniocreds.CredContext{Client: http.DefaultClient})
	return keys{v.AccessKeyID, v.SecretAccessKey, v.SessionToken, v.Expiration}, err
}

func (c *minioGo) put(ctx context.Context, bucket, key string, body []byte) error {
	_, err := c.s3.PutObject(ctx, bucket, key, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
	return err
}

func (c *minioGo) get(ctx context.Context, bucket, key string) ([]byte, error) {
	o, err := c.s3.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(o)
	return b, errors.Join(err, o.Close())
}

func (c *minioGo) with(k keys) client {
	fixed, err := newMinio(c.endpoint, miniocreds.NewStaticV4(k.id, k.secret, k.token))
	if err != nil {
		panic(err) // the endpoint was good a moment ago
	}
	return fixed
}

func (c *minioGo) status(err error) int {
	var re minio.ErrorResponse
	if errors.As(err, &re) {
		return re.StatusCode
	}
	return 0
}
