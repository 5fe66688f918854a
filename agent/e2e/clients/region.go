package main

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go/aws/ec2metadata"
)

// region is where the metadata service says that c runs. Both SDKs read it
// from the instance identity document.
func region(ctx context.Context, c client) (string, error) {
	switch c := c.(type) {
	case *v1:
		return ec2metadata.New(c.session).RegionWithContext(ctx)
	case *v2:
		o, err := imds.NewFromConfig(c.cfg).GetRegion(ctx, &imds.GetRegionInput{})
		if err != nil {
			return "", err
		}
		return o.Region, nil
	}
	return "", errors.New("this client does not ask")
}
