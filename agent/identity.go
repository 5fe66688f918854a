package agent

import (
	"cmp"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/imds/document"
)

// identity is the identity document, signed when there is a site key. What it
// says is of the moment at which a configuration was put to work, its address
// too: who verifies it must find the bytes that were signed.
func (a *Agent) identity(g *generation) (document.Signed, error) {
	text := a.document(g).Render()
	if a.site == nil {
		return document.Signed{Document: text}, nil
	}
	signed, err := a.site.Sign(text)
	if err != nil {
		return document.Signed{}, fmt.Errorf("signing the identity document: %w", err)
	}
	return signed, nil
}

func (a *Agent) document(g *generation) document.Document {
	cfg := g.cfg
	arch := map[string]string{"amd64": "x86_64", "arm64": "arm64", "386": "i386"}[runtime.GOARCH]
	return document.Document{
		AccountID: g.account(), Architecture: cmp.Or(arch, runtime.GOARCH), AvailabilityZone: zone(cfg),
		ImageID: cfg.Metadata.ImageID, InstanceID: a.instanceID(cfg), InstanceType: cfg.Metadata.InstanceType,
		PendingTime: a.started.Add(-Boot()).Truncate(time.Second),
		PrivateIP:   a.network.Leaves()["local-ipv4"], Region: region(cfg),
	}
}

func (a *Agent) instanceID(cfg *config.Config) string {
	return cmp.Or(cfg.Metadata.InstanceID, a.host.InstanceID())
}

// siteKey is the key of the state directory; the first start makes it. Without
// such a directory nothing could keep it, so there is none: a key that changes
// at each start says nothing to anybody. A key that cannot be had costs the
// signatures, and not the credentials.
func (a *Agent) siteKey(cfg *config.Config) *document.Key {
	dir, _, _ := strings.Cut(a.environ("STATE_DIRECTORY"), ":") // systemd's list; ours is the first
	if dir == "" {
		return nil
	}
	key, err := document.LoadOrCreate(filepath.Join(dir, "site.pem"), a.instanceID(cfg), a.started)
	if err != nil {
		a.log.Error("the identity document is served without signatures", logError, err.Error())
		return nil
	}
	return key
}

// environ is a variable of the process's own environment, "" without it.
func (a *Agent) environ(name string) (value string) {
	for _, kv := range a.o.Environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v // the last one counts
		}
	}
	return value
}
