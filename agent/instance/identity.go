package instance

import (
	"cmp"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/imds/document"
)

// SiteKey returns the key of the state directory, of which systemd may name
// several with colons between them: ours is the first. name is the subject of
// its certificate, and now the time, when it has to be made. Without such a
// directory nothing could keep a key, so there is none: one that changes at
// each start says nothing to anybody.
func SiteKey(stateDirectory, name string, now time.Time) (*document.Key, error) {
	dir, _, _ := strings.Cut(stateDirectory, ":")
	if dir == "" {
		return nil, nil
	}
	return document.LoadOrCreate(filepath.Join(dir, "site.pem"), name, now)
}

func identity(o Options, account string) document.Document {
	arch := map[string]string{"amd64": "x86_64", "arm64": "arm64", "386": "i386"}[runtime.GOARCH]
	return document.Document{
		AccountID: account, Architecture: cmp.Or(arch, runtime.GOARCH), AvailabilityZone: zone(o.Config),
		ImageID: o.Config.Metadata.ImageID, InstanceID: ID(o.Config, o.Host), InstanceType: o.Config.Metadata.InstanceType,
		PendingTime: o.Booted.Truncate(time.Second), PrivateIP: o.Network.Leaves()["local-ipv4"], Region: region(o.Config),
	}
}

func region(cfg *config.Config) string { return cmp.Or(cfg.Metadata.Region, cfg.Upstream.Region) }

// zone is a zone of the region: botocore takes the region from it by dropping
// its last letter.
func zone(cfg *config.Config) string {
	if region(cfg) == "" {
		return cfg.Metadata.AvailabilityZone
	}
	return cmp.Or(cfg.Metadata.AvailabilityZone, region(cfg)+"a")
}

// account is that of the config or of the role.
func account(o Options) string {
	id := o.Config.Metadata.AccountID
	if p := strings.Split(o.RoleARN, ":"); id == "" && len(p) > 4 {
		id = p[4]
	}
	return cmp.Or(id, "000000000000")
}

// partition and domain follow AWS's own table of regions.
func partition(region string) string {
	switch {
	case region == "":
		return ""
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(region, "eusc-"):
		return "aws-eusc"
	case strings.HasPrefix(region, "us-iso-"):
		return "aws-iso"
	case strings.HasPrefix(region, "us-isob-"):
		return "aws-iso-b"
	case strings.HasPrefix(region, "eu-isoe-"):
		return "aws-iso-e"
	case strings.HasPrefix(region, "us-isof-"):
		return "aws-iso-f"
	}
	return "aws"
}

func domain(region string) string {
	return map[string]string{"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn",
		"aws-eusc": "amazonaws.eu", "aws-iso": "c2s.ic.gov", "aws-iso-b": "sc2s.sgov.gov",
		"aws-iso-e": "cloud.adc-e.uk", "aws-iso-f": "csp.hci.ic.gov"}[partition(region)]
}
