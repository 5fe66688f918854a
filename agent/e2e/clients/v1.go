package main

import (
	"bytes"
	"context"
	"errors"
	"io"

	awsv1 "github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/awserr"
	credsv1 "github.com/aws/aws-sdk-go/aws/credentials"
	sessionv1 "github.com/aws/aws-sdk-go/aws/session"
	s3v1 "github.com/aws/aws-sdk-go/service/s3"
)

// v1 is aws-sdk-go, which ended in 2025 and is in many programs still.
type v1 struct{ session *sessionv1.Session }

func newV1(endpoint string) (*v1, error) {
	s, err := sessionv1.NewSession(&awsv1.Config{
		Endpoint: &endpoint, S3ForcePathStyle: awsv1.Bool(true), MaxRetries: awsv1.Int(0), // a retry would hide a key that does not work
	})
	return &v1{s}, err
}

func (c *v1) name() string { return "github.com/aws/aws-sdk-go" }

func (c *v1) keys(ctx context.Context) (keys, error) {
	v, err := c.session.Config.Credentials.GetWithContext(ctx)
	// Its chain does not say when they expire.
	return keys{id: v.AccessKeyID, secret: v.SecretAccessKey, token: v.SessionToken}, err
}

func (c *v1) put(ctx context.Context, bucket, key string, body []byte) error {
	_, err := s3v1.New(c.session).PutObjectWithContext(ctx, &s3v1.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)})
	return err
}

func (c *v1) get(ctx context.Context, bucket, key string) ([]byte, error) {
	o, err := s3v1.New(c.session).GetObjectWithContext(ctx, &s3v1.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(o.Body)
	return b, errors.Join(err, o.Body.Close())
}

func (c *v1) with(k keys) client {
	return &v1{c.session.Copy(&awsv1.Config{Credentials: credsv1.NewStaticCredentials(k.id, k.secret, k.token)})}
}

func (c *v1) status(err error) int {
	var re awserr.RequestFailure
	if errors.As(err, &re) {
		return re.StatusCode()
	}
	return 0
}
