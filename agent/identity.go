package agent

import (
	"strings"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/instance"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/imds/document"
)

// siteKey signs the identity document: that of the configuration, or one of its
// own that is made in the state directory. One that cannot be made costs the
// signatures, and not the credentials.
func (a *Agent) siteKey(cfg *config.Config) (*document.Key, error) {
	if ref := cfg.Metadata.SiteKey; ref != nil {
		pem, err := roles.Environment(a.o.Environ).Secret(*ref)
		var key *document.Key
		if err == nil {
			key, err = document.ParseKey([]byte(pem.Reveal()))
		}
		if err != nil {
			return nil, config.Faults{cfg.Fault("metadata.site_key", err.Error(), "")}
		}
		return key, nil
	}
	key, err := instance.SiteKey(a.environ("STATE_DIRECTORY"), instance.ID(cfg, a.host), a.started)
	if err != nil {
		a.log.Error("the identity document is served without signatures", logError, err.Error())
		return nil, nil
	}
	return key, nil
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
