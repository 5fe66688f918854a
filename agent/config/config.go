// Package config is the file format and nothing else.
//
// The structs are the manual: beside its TOML name, a field's tags say which
// kinds of table have it (kinds), what it is when absent (default), what to
// write when it must not be absent (need), and what it may be (oneof, between,
// form). One reader, in decode.go, goes by them; what concerns more than one
// key is in check.go, and what concerns roles and what they are from in
// chain.go.
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
	Format string `toml:"format" default:"auto" oneof:"auto text json"` // auto: text on a terminal, else json
}

// Admin is the operator's socket.
type Admin struct {
	Socket  string `toml:"socket" default:"/run/hostrole/admin.sock" form:"path"`
	Group   string `toml:"group" default:"hostrole" form:"user"` // may read status
	Metrics string `toml:"metrics"`                              // address of a Prometheus endpoint; default none
}

// Audit says where decisions are recorded.
type Audit struct {
	File     string `toml:"file" form:"path"` // default the log stream
	Required bool   `toml:"required"`         // no record, no credential; default false
}

// Rotation is the schedule of renewals.
type Rotation struct {
	RefreshAfter Duration `toml:"refresh_after" default:"1h" between:"1m 8760h"` // half of a credential's life counts if that is sooner
	Parallel     int      `toml:"parallel" default:"4" between:"1 64"`           // upstream calls at once
	Splay        Duration `toml:"splay" default:"3s" between:"0s 10m"`           // spread of the first calls
}

// Upstream holds the defaults of every source and role.
type Upstream struct {
	Region   string   `toml:"region" form:"region"`                  // signs the requests and names AWS's endpoint; required unless every use sets its own
	Endpoint string   `toml:"endpoint" form:"endpoint"`              // STS URL; "" is AWS's regional endpoint. http only to a loopback address
	CAFile   string   `toml:"ca_file" form:"path"`                   // PEM roots instead of the system's; absolute once parsed; default the system's
	Proxy    string   `toml:"proxy" default:"none" form:"proxy"`     // none | env | a URL
	Timeout  Duration `toml:"timeout" default:"20s" between:"1s 5m"` // of one call with its retries
}

// Listener is one endpoint.
type Listener struct {
	Name          string     `toml:"name" need:"write name = 'host' or another name for logs and rules" form:"name"` // unique
	Kind          string     `toml:"kind" need:"write kind = 'imds'" oneof:"imds ecs eks"`
	Address       []HostPort `toml:"address"`                             // IP addresses with a port; default for imds: 169.254.169.254:80
	Ingress       *string    `toml:"ingress" default:"lo" form:"ingress"` // device that packets must arrive on; "" only with loopback addresses
	ManageAddress *bool      `toml:"manage_address" default:"true"`       // add the addresses to link, and take them off at exit
	Link          string     `toml:"link" default:"lo" form:"device"`     // link that carries the addresses
	Tokens        string     `toml:"tokens" default:"required" oneof:"required credentials optional"`
	StrictHeaders *bool      `toml:"strict_headers" default:"true"`
	HopLimit      int        `toml:"hop_limit" default:"1" between:"1 64"` // IP TTL of token responses
	AllowShadow   bool       `toml:"allow_shadow"`                         // default false
	Redirect      bool       `toml:"redirect"`                             // default false
}

// Metadata is what the tree says; what is absent is derived from the host.
type Metadata struct {
	Region           string            `toml:"region" form:"region"` // default upstream.region
	AvailabilityZone string            `toml:"availability_zone" form:"word"`
	InstanceID       string            `toml:"instance_id" form:"instance"` // i- and 8 or 17 hexadecimal digits
	InstanceType     string            `toml:"instance_type" form:"word"`
	AccountID        string            `toml:"account_id" form:"account"` // 12 digits
	ImageID          string            `toml:"image_id" form:"word"`
	UserData         *File             `toml:"user_data"` // nil without one
	Tags             map[string]string `toml:"tags"`
	Extra            map[string]string `toml:"extra"` // verbatim leaves below meta-data/
}

// File refers to a file by path.
type File struct {
	File string `toml:"file" form:"path"` // absolute once parsed
}

// Source is where this host's own identity comes from. Kind decides which of
// the other keys a source may have.
type Source struct {
	Kind string `toml:"kind" need:"write kind = 'static', 'process' or 'web-identity'" oneof:"static process web-identity saml roles-anywhere cognito vault instance"`

	AccessKeyID     *Text `toml:"access_key_id" kinds:"static" need:"write the access key id, or a reference to it"`
	SecretAccessKey *Ref  `toml:"secret_access_key" kinds:"static" need:"write { file = '…' }, { env = '…' } or { credential = '…' }"`
	SessionToken    *Ref  `toml:"session_token" kinds:"static"` // for keys that are temporary themselves

	Command []string  `toml:"command" kinds:"process" need:"write command = ['/path/to/program', 'argument']" form:"argv"` // argv, absolute path first, no shell
	Timeout *Duration `toml:"timeout" kinds:"process" between:"1s 5m"`                                                     // of the command; default 60s

	Assertion *Assertion `toml:"assertion" kinds:"web-identity" need:"write assertion = { file = '…' } or { command = ['…'] }"`

	Region   string `toml:"region" kinds:"static web-identity" form:"region"`     // default upstream.region
	Endpoint string `toml:"endpoint" kinds:"static web-identity" form:"endpoint"` // default upstream.endpoint
	CAFile   string `toml:"ca_file" kinds:"static web-identity" form:"path"`      // default upstream.ca_file
	Proxy    string `toml:"proxy" kinds:"static web-identity" form:"proxy"`       // default upstream.proxy
}

// Assertion is what the host shows to be believed: exactly one of its fields.
type Assertion struct {
	File    string   `toml:"file" form:"path"`    // absolute once parsed; read at each use
	Command []string `toml:"command" form:"argv"` // argv, absolute path first, no shell
}

// Role is one role that callers can be given, or a step on the way to one.
type Role struct {
	ARN            string            `toml:"arn"` // may be absent where the upstream fixes the role
	From           From              `toml:"from" need:"write from = 'source.NAME', or 'role.NAME' for a chain"`
	Duration       SessionDuration   `toml:"duration" default:"1h" between:"1s 8760h"`              // 15m to 12h, 1h at most for a chain; all of it with an endpoint of one's own
	SessionName    string            `toml:"session_name" default:"{hostname}" form:"session_name"` // template
	ExternalID     string            `toml:"external_id" form:"external_id"`
	SourceIdentity string            `toml:"source_identity" form:"source_identity"` // template
	Policy         *File             `toml:"policy"`                                 // nil without one
	PolicyARNs     []string          `toml:"policy_arns" empty:"ok"`
	Tags           map[string]string `toml:"tags"` // values are templates
	TransitiveTags []string          `toml:"transitive_tags" empty:"ok"`
	Region         string            `toml:"region" form:"region"`     // "" is that of the source
	Endpoint       string            `toml:"endpoint" form:"endpoint"` // "" is that of the source
}

// Allow is one rule. First match wins; every fact that a rule names must
// match, and one value of each is enough.
type Allow struct {
	Name      string   `toml:"name" form:"word"`                                                    // default "rule N", counted from 1
	User      []string `toml:"user" form:"user"`                                                    // names in the host's user database
	UID       []uint32 `toml:"uid"`                                                                 // not 65534 or 65535: the kernel's word for "unknown"
	Group     []string `toml:"group" form:"user"`                                                   // names in the host's user database
	Listener  []string `toml:"listener"`                                                            // names of listeners
	Any       bool     `toml:"any"`                                                                 // every caller whom the kernel can name; alone but for listener
	Roles     []string `toml:"roles" need:"write roles = ['NAME'], the names of tables below role"` // the first is the caller's own
	Session   string   `toml:"session" default:"role" oneof:"role caller"`
	AuditOnly bool     `toml:"audit_only"` // record what the rule would have decided, and go on
}
