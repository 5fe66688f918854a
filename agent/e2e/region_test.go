//go:build linux

package e2e_test

import (
	"encoding/json"
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
