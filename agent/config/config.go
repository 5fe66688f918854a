// Package config is the file format and nothing else.
//
// The structs are the manual: beside its TOML name, a field's tags say which
// kinds of table have it (kinds), what it is when absent (default), what to
// write when it must not be absent (need, which needed keeps to some kinds),
// and what it may be (oneof, between, form). One reader, in decode.go, goes by
// them; what concerns more than one key is in check.go, what concerns sources
// in source.go and assertion.go, and what concerns roles and what they are from
// in chain.go.
//
// # Why not
//
// Not the library's decoder: it stops at the first wrong value, then reports no
// unknown key, and quotes the line around a fault, with the secret that someone
// has put there. Its parser reads the file, and its decoder has the last word
// on what is TOML. Not YAML: its implicit typing turns an account id into an
// octal number. Not a layered configuration library: every one of them loses
// the position of a value, and a fault without a line is a fault that an
// operator has to search. Not AWS profiles: they have no positions, ignore
// unknown keys in silence, and end in our own address.
package config

import "net/netip"

// A Config is one parsed and checked file with its drop-ins. Defaults are
// filled in. The documentation of each field is its line in the packaged
// hostrole.toml.
type Config struct {
	Version   int               `toml:"version" need:"write version = 1 above all tables"` // 1; required
	Log       Log               `toml:"log"`
	Admin     Admin             `toml:"admin"`
	Audit     Audit             `toml:"audit"`
	Rotation  Rotation          `toml:"rotation"`
	Upstream  Upstream          `toml:"upstream"`
	Listeners []Listener        `toml:"listener"` // default: one of kind imds on 169.254.169.254:80
	Runtime   Runtime           `toml:"runtime"`
	Metadata  Metadata          `toml:"metadata"`
	Sources   map[string]Source `toml:"source"`
	Roles     map[string]Role   `toml:"role"`  // at least one
	Allow     []Allow           `toml:"allow"` // at least one

	Warnings []Fault // what is allowed and not wise, by position

	index index // key path to position, for faults found later
}

// Log says what is logged and how.
type Log struct {
	Level  string `toml:"level" default:"info" oneof:"debug info warn error"`
	Format string `toml:"format" default:"auto" oneof:"auto text json"` // auto: fields of the journal under systemd, text on a terminal, else json
}

// Admin is the operator's socket.
type Admin struct {
	Socket  string `toml:"socket" default:"/run/hostrole/admin.sock" form:"path" read:"never"`
	Group   string `toml:"group" default:"hostrole" form:"user"` // may read status
	Metrics string `toml:"metrics"`                              // address of a Prometheus endpoint; default none
}

// Audit says where decisions are recorded.
type Audit struct {
	File     string `toml:"file" form:"path" read:"never"` // default the log stream
	Required bool   `toml:"required"`                      // no record, no credential; default false
}

// Runtime says whom to ask for the names, images and labels of containers, where
// a rule needs them.
type Runtime struct {
	Docker           string `toml:"docker" default:"/run/docker.sock" form:"path" read:"never"`        // its socket; "" is not asked
	Podman           string `toml:"podman" default:"/run/podman/podman.sock" form:"path" read:"never"` // its socket; "" is not asked
	Kubelet          string `toml:"kubelet" form:"endpoint"`                                           // https address of this node's; "" is not asked
	KubeletCAFile    string `toml:"kubelet_ca_file" form:"path" read:"use"`                            // PEM certificates that the kubelet's is checked against; goes with kubelet
	KubeletTokenFile string `toml:"kubelet_token_file" form:"path" read:"use"`                         // of an account that may get nodes/proxy; goes with kubelet
}

// Rotation is the schedule of renewals.
type Rotation struct {
	RefreshAfter Duration `toml:"refresh_after" default:"1h" between:"1m 8760h"` // half of a credential's life counts if that is sooner
	Parallel     int      `toml:"parallel" default:"4" between:"1 64"`           // upstream calls at once
	Splay        Duration `toml:"splay" default:"3m" between:"0s 10m"`           // spread of the first calls that nobody waits for
	RebootFile   *Sealed  `toml:"reboot_file"`                                   // default none: a reboot begins without credentials
}

// Sealed is a file in which live credentials outlast a reboot.
type Sealed struct {
	File string `toml:"file" need:"write file = '/var/lib/hostrole/reboot'" form:"path"`
	Key  *Ref   `toml:"key" need:"write { credential = '…' }, which systemd unseals, or { file = '…' }"` // 32 letters or more
}

// Upstream holds the defaults of every source and role.
type Upstream struct {
	Region   string   `toml:"region" form:"region"`                  // signs the requests and names AWS's endpoint; required unless every use sets its own
	Endpoint string   `toml:"endpoint" form:"endpoint"`              // STS URL; "" is AWS's regional endpoint. http only to a loopback address
	CAFile   string   `toml:"ca_file" form:"path"`                   // PEM roots instead of the system's; absolute once parsed; default the system's
	Proxy    string   `toml:"proxy" default:"none" form:"proxy"`     // none | env | a URL
	Timeout  Duration `toml:"timeout" default:"20s" between:"1s 5m"` // of one call with its retries
	Pins     []string `toml:"pins" form:"pin" empty:"ok"`            // of STS: sha256/… of a public key in its chain; default any

	FallbackRegion   string `toml:"fallback_region" form:"region"`     // of the STS that is asked while the first does not answer, in the same partition; default none
	FallbackEndpoint string `toml:"fallback_endpoint" form:"endpoint"` // its URL; "" is AWS's in that region
}

// Listener is one endpoint.
type Listener struct {
	Name          string     `toml:"name" need:"write name = 'host' or another name for logs and rules" form:"name"` // unique
	Kind          string     `toml:"kind" need:"write kind = 'imds'" oneof:"imds ecs eks"`
	Address       []HostPort `toml:"address"`                             // IP addresses with a port; default for imds: 169.254.169.254:80
	Ingress       *string    `toml:"ingress" default:"lo" form:"ingress"` // device that packets must arrive on; "" only with loopback addresses
	ManageAddress *bool      `toml:"manage_address" default:"true"`       // add the addresses to link, and take them off at exit
	Link          string     `toml:"link" default:"lo" form:"device"`     // link that carries the addresses
	Tokens        string     `toml:"tokens" kinds:"imds" default:"required" oneof:"required credentials optional"`
	StrictHeaders *bool      `toml:"strict_headers" default:"true"`
	HopLimit      int        `toml:"hop_limit" kinds:"imds" default:"1" between:"1 64"` // IP TTL of token responses
	AllowShadow   bool       `toml:"allow_shadow"`                                      // default false
	Redirect      bool       `toml:"redirect"`                                          // default false

	Authorization *Ref         `toml:"authorization" kinds:"ecs"` // what clients must send in the header of that name; default nothing
	EKS           *PodIdentity `toml:"eks" kinds:"eks" need:"write eks = { issuer = '…', jwks_file = '…' }"`
}

// PodIdentity says whose service account tokens a listener of kind eks takes.
type PodIdentity struct {
	Issuer   string `toml:"issuer" need:"write the issuer exactly as its tokens name it" form:"word"`
	JWKSFile string `toml:"jwks_file" need:"name a file with the issuer's keys: what /openid/v1/jwks of the API server answers" form:"path"` // read again at each refresh
	Audience string `toml:"audience" default:"pods.eks.amazonaws.com" form:"word"`
}

// Metadata is what the tree says; what is absent is derived from the host.
type Metadata struct {
	Region           string            `toml:"region" form:"region"` // default upstream.region
	AvailabilityZone string            `toml:"availability_zone" form:"word"`
	InstanceID       string            `toml:"instance_id" form:"instance"` // i- and 8 or 17 hexadecimal digits
	InstanceType     string            `toml:"instance_type" form:"word"`
	AccountID        string            `toml:"account_id" form:"account"` // 12 digits
	ImageID          string            `toml:"image_id" form:"word"`
	Hostname         string            `toml:"hostname" form:"word"` // default the host's own, with its domain
	UserData         *File             `toml:"user_data"`            // nil without one
	SiteKey          *Ref              `toml:"site_key"`             // signs the identity document; default one that is made in the state directory
	LifecycleState   string            `toml:"lifecycle_state" oneof:"InService Standby Terminated Stopped Hibernated Warmed:Stopped Warmed:Running Warmed:Hibernated Warmed:Terminated"`
	Spot             *Spot             `toml:"spot"`   // default none
	Events           *Events           `toml:"events"` // default none
	Tags             map[string]string `toml:"tags"`
	Extra            map[string]string `toml:"extra"` // verbatim leaves below meta-data/
}

// Spot announces that the host will be taken away.
type Spot struct {
	Action string    `toml:"action" need:"write hibernate, stop or terminate" oneof:"hibernate stop terminate"`
	Time   Timestamp `toml:"time" need:"write when, like '2026-01-02T03:04:05Z'"`
}

// Events are announced maintenance and advice.
type Events struct {
	Rebalance Timestamp `toml:"rebalance"` // default none
	Scheduled []Event   `toml:"scheduled"` // default an empty list
	History   []Event   `toml:"history"`   // default an empty list
}

// Event is one of maintenance.
type Event struct {
	Code        string    `toml:"code" need:"write what will be done, like system-reboot" oneof:"instance-reboot system-reboot system-maintenance instance-retirement instance-stop"`
	ID          string    `toml:"id" form:"word"`
	Description string    `toml:"description" form:"word"`
	NotBefore   Timestamp `toml:"not_before" need:"write when, like '2026-01-02T03:04:05Z'"`
	NotAfter    Timestamp `toml:"not_after"` // default open
	State       string    `toml:"state" default:"active" oneof:"active completed canceled"`
}

// File refers to a file by path.
type File struct {
	File string `toml:"file" form:"path"` // absolute once parsed
}

// Role is one role that callers can be given, or a step on the way to one.
type Role struct {
	ARN            string            `toml:"arn"`                                                                // may be absent where the upstream fixes the role
	From           From              `toml:"from" need:"write from = 'source.NAME', or 'role.NAME' for a chain"` // a list: the next is tried when one is down or refuses
	Duration       SessionDuration   `toml:"duration" default:"1h" between:"1s 8760h"`                           // max, or 15m to 12h, 1h at most for a chain; all of it with an endpoint of one's own
	SessionName    string            `toml:"session_name" default:"{hostname}" form:"session_name"`              // template
	ExternalID     string            `toml:"external_id" form:"external_id"`
	SourceIdentity string            `toml:"source_identity" form:"source_identity"` // template
	Policy         *File             `toml:"policy"`                                 // nil without one
	PolicyARNs     []string          `toml:"policy_arns" empty:"ok"`
	Tags           map[string]string `toml:"tags"` // values are templates
	TransitiveTags []string          `toml:"transitive_tags" empty:"ok"`
	Region         string            `toml:"region" form:"region"`     // "" is that of the source
	Endpoint       string            `toml:"endpoint" form:"endpoint"` // "" is that of the source

	FallbackRegion   string `toml:"fallback_region" form:"region"` // these two: "" is that of the source
	FallbackEndpoint string `toml:"fallback_endpoint" form:"endpoint"`
}

// Allow is one rule. First match wins; every fact that a rule names must
// match, and one value of each is enough.
type Allow struct {
	Name      string   `toml:"name" form:"word"`                                                    // default "rule N", counted from 1
	User      []string `toml:"user" form:"user"`                                                    // names in the host's user database
	UID       []uint32 `toml:"uid"`                                                                 // not 65534 or 65535: the kernel's word for "unknown"
	Group     []string `toml:"group" form:"user"`                                                   // names in the host's user database
	Unit      []string `toml:"unit"`                                                                // patterns of path.Match for the unit by the name that systemctl shows
	Container []string `toml:"container"`                                                           // patterns for the id, the machine's name, or the runtime's name of a container
	Image     []string `toml:"image"`                                                               // patterns for the name of a container's image, or with sha256: for its digest
	Label     []string `toml:"label"`                                                               // key=pattern, or key: one of each key
	Pod       []string `toml:"pod" form:"pod"`                                                      // patterns for namespace/serviceaccount of a verified token
	Source    []Prefix `toml:"source"`                                                              // addresses that the caller comes from; the caller must be known all the same
	Listener  []string `toml:"listener"`                                                            // names of listeners
	Any       bool     `toml:"any"`                                                                 // every caller whom the kernel can name; alone but for listener
	Roles     []string `toml:"roles" need:"write roles = ['NAME'], the names of tables below role"` // the first is the caller's own
	Session   string   `toml:"session" default:"role" oneof:"role caller"`
	AuditOnly bool     `toml:"audit_only"` // record what the rule would have decided, and go on
}

// Listens reports whether a listener has that address.
func (c *Config) Listens(at netip.AddrPort) bool {
	for _, l := range c.Listeners {
		for _, a := range l.Address {
			if a.AddrPort == at {
				return true
			}
		}
	}
	return false
}
