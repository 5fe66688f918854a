// Command clients is what programs in the field are: the default credential
// chain of an SDK with nothing configured, and S3.
//
//	clients creds  v1|v2|minio                                          which key did the chain find
//	clients s3     v1|v2|minio ENDPOINT BUCKET                          the same, and an object put and read back
//	clients steady v1|v2|minio ENDPOINT BUCKET --rotations N --limit D  S3 without a pause over N changes of the key
//	clients loop   v1|v2|minio ENDPOINT BUCKET                          an object read at each line of the standard input
//	clients region v1|v2                                                where does the SDK think that it runs
//
// v1 is aws-sdk-go, v2 is aws-sdk-go-v2, minio is minio-go. Each prints one line of JSON, which
// never holds a secret, and exits 0 only if every operation went well.
//
// It is a module of its own, so that hostrole itself never depends on an SDK's
// default chain: that chain ends at hostrole's own address.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

const usage = "usage: clients creds|s3|steady|loop|region v1|v2|minio [ENDPOINT BUCKET] [--rotations N] [--limit D]"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		stop()
		os.Exit(1)
	}
}

// run does what args say and prints its result on out.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) < 2 {
		return errors.New(usage)
	}
	command, kind, args := args[0], args[1], args[2:]
	var endpoint, bucket string
	if command != "creds" && command != "region" {
		if len(args) < 2 {
			return errors.New(usage)
		}
		endpoint, bucket, args = args[0], args[1], args[2:]
	}
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	rotations := flags.Int("rotations", 3, "changes of the access key to see")
	limit := flags.Duration("limit", time.Minute, "give up after this time")
	window := flags.Duration("window", 0, "v2: renew this long before the expiry; 0 is the SDK's default")
	if err := flags.Parse(args); err != nil {
		return err
	}

	c, err := newClient(ctx, kind, endpoint, *window)
	if err != nil {
		return fmt.Errorf("setting up %s: %w", kind, err)
	}
	switch command {
	case "region":
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		region, err := region(ctx, c)
		if err != nil {
			return fmt.Errorf("asking for the region: %w", err)
		}
		return json.NewEncoder(out).Encode(map[string]string{"client": c.name(), "version": version(c.name()), "region": region})
	case "creds", "s3":
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		keys, err := c.keys(ctx)
		if err != nil {
			return fmt.Errorf("asking the default chain: %w", err)
		}
		if command == "s3" {
			if err := roundTrip(ctx, c, bucket, kind); err != nil {
				return err
			}
		}
		return json.NewEncoder(out).Encode(map[string]string{
			"client": c.name(), "version": version(c.name()), "accessKeyId": keys.id,
		})
	case "loop":
		return loop(ctx, c, bucket, os.Stdin, out)
	case "steady":
		sum, err := steady(ctx, c, bucket, *rotations, *limit)
		sum.Client, sum.Version = c.name(), version(c.name())
		return errors.Join(err, json.NewEncoder(out).Encode(sum))
	}
	return errors.New(usage)
}

// version is the version of the module path that this program was built with.
func version(path string) string {
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}
