//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRegion: a program that was told no region finds the one of the host. Go
// reads the identity document, botocore the zone, JavaScript the region.
func TestRegion(t *testing.T) {
	regions(t, []sdk{
		{name: "region-aws-sdk-go-v2", argv: func(t *testing.T) []string { return []string{goClients(t), "region", "v2"} }},
		{name: "region-aws-sdk-go-v1", argv: func(t *testing.T) []string { return []string{goClients(t), "region", "v1"} }},
		{name: "region-botocore", argv: func(t *testing.T) []string { return []string{boto3(t), "clients/boto3_region.py"} }},
		{name: "region-aws-sdk-js-v3", argv: node("node", "region.mjs")},
	})
}

// TestFieldRegion is TestRegion with the clients that take minutes to install.
func TestFieldRegion(t *testing.T) {
	fieldOnly(t)
	regions(t, []sdk{{name: "region-debian-awscli-2", argv: func(t *testing.T) []string {
		return append(debian("awscli-region")(t), "no endpoint", "no bucket")
	}}})
}

func regions(t *testing.T, clients []sdk) {
	t.Helper()
	d := startHostrole(t, simple(t, anybody))
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			argv := c.argv(t)
			env := slices.DeleteFunc(bare(t), func(v string) bool { return strings.Contains(v, "REGION=") })
			from := d.settle(t)
			out := output(t, time.Minute, env, argv...)
			golden(t, filepath.Join("testdata", "sdk", c.name+".txt"), func() string { return sequence(d.out.since(from)) })
			var result struct{ Client, Version, Region string }
			if err := json.Unmarshal(out, &result); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("%s %s", result.Client, result.Version)
			if result.Region != "eu-central-1" {
				t.Errorf("it thinks that it runs in %q, want eu-central-1", result.Region)
			}
		})
	}
}

// A regionless is a client whose ways to a region do not lead to the metadata
// service, or whose API does not tell which one it found there.
type regionless struct {
	sdk
	says string // how it fails without a region; "" if it does without one
	asks bool   // it asks for the region all the same
}

// TestNoRegion: what becomes of the clients that TestRegion cannot ask. Their
// golden files have all that they read.
func TestNoRegion(t *testing.T) {
	noRegion(t, []regionless{
		{sdk: sdk{name: "region-minio-go", argv: goClient("s3", "minio")}},
		{sdk: sdk{name: "region-minio-js", argv: node("node", "minio.mjs")}},
		{sdk: sdk{name: "region-aws-crt", argv: node("node", "crt.mjs")}},
		{sdk: sdk{name: "region-aws-sdk-js-v2", argv: node("node", "v2.mjs")}},
	})
}

// TestFieldNoRegion is TestNoRegion with the clients that take minutes to
// install.
func TestFieldNoRegion(t *testing.T) {
	fieldOnly(t)
	noRegion(t, []regionless{
		{sdk: sdk{name: "region-debian-ruby", argv: debian("ruby-region")}, says: "MissingRegionError"},
		{sdk: sdk{name: "region-aws-sdk-rust", argv: rust("client.mjs")}, asks: true},
	})
}

func noRegion(t *testing.T, clients []regionless) {
	t.Helper()
	startMinIO(t, nil)
	w := newWitness(t)
	d := startHostrole(t, sdkConfig(t))
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			argv := append(c.argv(t), w.url, bucket)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Env = slices.DeleteFunc(bare(t), func(v string) bool { return strings.Contains(v, "REGION=") })
			cmd.WaitDelay = time.Second
			from := d.settle(t)
			out, err := cmd.CombinedOutput()
			if (err != nil) != (c.says != "") || !strings.Contains(string(out), c.says) {
				t.Errorf("it ended with %v, want it to say %q:\n%.800s", err, c.says, out)
			}
			golden(t, filepath.Join("testdata", "sdk", c.name+".txt"), func() string { return sequence(d.out.since(from)) })
			asked := slices.ContainsFunc(requests(d.out.since(from)), func(r request) bool {
				return strings.Contains(r.Path, "/placement/") || strings.Contains(r.Path, "/instance-identity/")
			})
			if asked != c.asks {
				t.Errorf("it asked for a region: %v, want %v", asked, c.asks)
			}
		})
	}
}
