// Package instance is what this host is to its workloads: the metadata tree,
// the identity document and the user data of a configuration.
//
// # Why not
//
// Not a value for every path that EC2 has: what is not true here is not there,
// neither as a path nor in a listing. That concerns what only a launch on EC2
// gives: a launch index, a reservation, block devices by the names of an image,
// a hypervisor, a life cycle, security groups, public addresses, and the ids of
// interfaces, subnets and VPCs. An operator who has something of the kind gives
// it below metadata.extra, which comes before everything else. Not an instance
// type made up from the hardware: programs look it up in tables of AWS's.
package instance

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/imds/document"
	"github.com/hostrole/hostrole/imds/metadata"
)

// Options are what an Instance is made of. All but RoleARN, Site and Notices
// are required.
type Options struct {
	Config  *config.Config
	Host    facts.Host
	Network *facts.Network
	RoleARN string        // of the role that the first rule gives; "" without one
	Site    *document.Key // signs the identity document; nil for nobody
	Booted  time.Time     // when the host was
	Notices metadata.Notices
}

// An Instance is all that a configuration says of the host. It never changes.
type Instance struct {
	AccountID string                // of the configuration or the role; 12 digits, zeros when nobody knows
	Tree      func() *metadata.Tree // below meta-data/, as it is now
	Identity  document.Signed
	UserData  []byte // nil: none
}

// New makes the instance of a configuration. It reads the file of the user
// data. Its error is a [config.Faults] where the operator can mend it.
func New(o Options) (*Instance, error) {
	i := &Instance{AccountID: account(o)}
	var err error
	if i.UserData, err = userData(o.Config); err != nil {
		return nil, err
	}
	if i.Tree, err = tree(o); err != nil {
		return nil, config.Faults{o.Config.Fault("metadata.extra", err.Error(), "correct the path")}
	}
	// What the document says is of the moment at which the configuration was
	// put to work, its address too: who verifies it must find the bytes that
	// were signed.
	i.Identity.Document = identity(o, i.AccountID).Render()
	if o.Site != nil {
		if i.Identity, err = o.Site.Sign(i.Identity.Document); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// ID is the configured instance id, or that of the host.
func ID(cfg *config.Config, host facts.Host) string {
	return cmp.Or(cfg.Metadata.InstanceID, host.InstanceID())
}

// tree is what stands below meta-data/, from the config and from the host; its
// network as it is at each look. What has no value is not there.
func tree(o Options) (func() *metadata.Tree, error) {
	m, region := o.Config.Metadata, region(o.Config)
	leaves := map[string]string{
		"instance-id":                 ID(o.Config, o.Host),
		"hostname":                    cmp.Or(m.Hostname, o.Host.FQDN),
		"local-hostname":              cmp.Or(m.Hostname, o.Host.FQDN),
		"placement/region":            region,
		"placement/availability-zone": zone(o.Config),
		"services/domain":             domain(region),
		"services/partition":          partition(region),
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
	maps.Copy(leaves, o.Notices.Leaves())
	for path, value := range m.Extra {
		leaves[path] = value
	}
	fixed, err := metadata.New(leaves)
	if err != nil {
		return nil, err
	}
	return fixed.With(o.Network.Leaves), nil
}

// userDataLimit is EC2's.
const userDataLimit = 16 << 10

func userData(cfg *config.Config) ([]byte, error) {
	f := cfg.Metadata.UserData
	if f == nil {
		return nil, nil
	}
	b, err := os.ReadFile(f.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, config.Faults{cfg.Fault("metadata.user_data", f.File+" is not there", "put the user data there, or take the key out")}
	case err != nil:
		return nil, config.Faults{cfg.Fault("metadata.user_data", err.Error(), "")}
	case len(b) > userDataLimit:
		return nil, config.Faults{cfg.Fault("metadata.user_data", fmt.Sprintf("%s has %d bytes", f.File, len(b)), "user data has 16384 bytes at most; compress it")}
	}
	return append([]byte{}, b...), nil // not nil: an empty file is user data
}
