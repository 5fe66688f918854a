package sts

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A signer derives the signing key for each request anew. The SDK's own keeps
// it for a day by the access key id alone (aws/signer/internal/v4/cache.go of
// v1.47.7): after a wrong secret, the right one for the same id would sign with
// the wrong key until midnight.
type signer struct{}

func (signer) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, hash, service, region string, at time.Time, o ...func(*v4.SignerOptions)) error {
	return v4.NewSigner().SignHTTP(ctx, c, r, hash, service, region, at, o...)
}
