package agent

import (
	"cmp"
	"net/netip"
	"strings"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/ec2"
	"github.com/hostrole/hostrole/imds/metadata"
	"github.com/hostrole/hostrole/imds/token"
)

// server builds what answers on one listener.
func (a *Agent) server(l config.Listener, who imds.Identifier) *imds.Server {
	c := a.current.conduct[l.Name]
	return imds.New(imds.Options{
		Name: l.Name, Server: ec2.Server, Handler: c.Handler, Guard: c.Guard, HopLimit: c.HopLimit,
		Identifier: who, Now: Now, Observe: a.recording.exchange,
	})
}

// conduct is what a listener does with requests by one configuration.
func (a *Agent) conduct(g *generation, l config.Listener) imds.Conduct {
	tokens := map[string]ec2.Tokens{"required": ec2.Required, "credentials": ec2.Credentials, "optional": ec2.Optional}[l.Tokens]
	handler := ec2.New(ec2.Options{
		Gate: g.gate, Sealer: token.New(a.tokenKey, l.Name, bootID(), Boot), Tokens: tokens,
		Tree: g.tree, Identity: g.identity, UserData: g.userData,
		AccountID: g.account(), Started: a.started, Now: Now,
	})
	var addrs []netip.AddrPort
	for _, at := range l.Address {
		addrs = append(addrs, at.AddrPort)
	}
	return imds.Conduct{Handler: handler, HopLimit: l.HopLimit, Guard: imds.NewGuard(addrs, l.StrictHeaders == nil || *l.StrictHeaders)}
}

// tree is what stands below meta-data/, from the config and from the host; its
// network as it is at each look. What has no value is not there, and neither is
// what would only be true on EC2: a launch index, a reservation, block devices
// by the names of an image, a hypervisor, a life cycle. An operator who has
// something of the kind gives it below metadata.extra, which comes before
// everything else.
func (a *Agent) tree(cfg *config.Config) (func() *metadata.Tree, error) {
	m := cfg.Metadata
	leaves := map[string]string{
		"instance-id":                 a.instanceID(cfg),
		"hostname":                    a.host.FQDN,
		"local-hostname":              a.host.FQDN,
		"placement/region":            region(cfg),
		"placement/availability-zone": zone(cfg),
		"services/domain":             domain(region(cfg)),
		"services/partition":          partition(region(cfg)),
		"ami-id":                      m.ImageID,
		"instance-type":               m.InstanceType,
	}
	for k, v := range m.Tags {
		leaves["tags/instance/"+k] = v
	}
	for path, value := range leaves {
		if value == "" && !strings.HasPrefix(path, "tags/") {
			delete(leaves, path)
		}
	}
	for path, value := range m.Extra {
		leaves[path] = value
	}
	fixed, err := metadata.New(leaves)
	if err != nil {
		return nil, err
	}
	return fixed.With(a.network.Leaves), nil
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

// account is that of the config or of the role that the first rule gives.
func (g *generation) account() string {
	id := g.cfg.Metadata.AccountID
	if id == "" {
		if p := strings.Split(g.roles[g.cfg.Allow[0].Roles[0]].ARN, ":"); len(p) > 4 {
			id = p[4]
		}
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
	}
	return "aws"
}

func domain(region string) string {
	return map[string]string{"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn",
		"aws-eusc": "amazonaws.eu", "aws-iso": "c2s.ic.gov", "aws-iso-b": "sc2s.sgov.gov"}[partition(region)]
}
