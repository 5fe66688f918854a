// The house as data: who may import whom, and which files may do what most
// files must not. The tables are policy, not description. A build that fails
// here is mended in the code; a table changes in a commit of its own, with the
// reason in its body.

package agent_test

const house = "github.com/hostrole/hostrole"

// topLevel is all that may stand at the root of the repository, beside
// dot-files and what .gitignore names as built.
const topLevel = `agent imds rotation packaging systemd cmd go.mod go.sum README.md
	Makefile LICENSE CHANGELOG.md CONTRIBUTING.md SECURITY.md SPECIFICATION.md build`

// imports says which of our packages a package may import, directly. A package
// that has no line may not exist. On the left * is one folder; on the right it
// is all that is below.
const imports = `
rotation/credential        :
rotation/upstream          : rotation/credential
rotation/command           : rotation/upstream
rotation/assertion/svid    :
rotation/assertion/samlp   : rotation/credential rotation/upstream rotation/command
rotation/assertion         : rotation/upstream rotation/credential rotation/command rotation/assertion/svid rotation/assertion/samlp
rotation/sts               : rotation/credential rotation/source rotation/upstream
rotation/source            : rotation/credential
rotation/source/sourcetest : rotation/credential rotation/source
rotation/source/*          : rotation/credential rotation/source rotation/sts rotation/assertion rotation/assertion/samlp rotation/upstream rotation/command
rotation/store             : rotation/credential
rotation/handover          : rotation/credential
rotation                   : rotation/credential rotation/source rotation/store

imds/caller                :
imds/caller/kernel         :
imds/caller/host           : imds/caller imds/caller/kernel
imds/caller/netns          : imds/caller imds/caller/host imds/caller/kernel
imds/caller/*              : imds/caller
imds/policy                : imds/caller
imds/gate                  : imds/caller rotation/credential
imds/token                 :
imds/metadata              :
imds/document              :
imds                       : imds/caller
imds/imdstest              : imds/caller imds/gate rotation/credential
imds/imdstest/ownnet       :
imds/ec2                   : imds imds/caller imds/gate imds/token imds/metadata imds/document rotation/credential
imds/ecs                   : imds imds/caller imds/gate imds/token imds/metadata imds/document rotation/credential
imds/eks                   : imds imds/caller imds/gate imds/token imds/metadata imds/document rotation/credential
imds/process               : imds imds/caller imds/gate imds/token imds/metadata imds/document rotation/credential

systemd                    :

agent/config               :
agent/facts                :
agent/template             :
agent/roles                : agent/config agent/facts agent/template rotation rotation/*
agent/session              : agent/roles imds/caller rotation rotation/credential rotation/store
agent/estate               : imds imds/token rotation rotation/* systemd
agent/report               : agent/admin agent/roles imds/caller imds/caller/* imds/policy rotation rotation/credential rotation/source rotation/store
agent/instance             : agent/config agent/facts imds/metadata imds/document
agent/hostaddr             :
agent/ingress              :
agent/redirect             :
agent/occupant             :
agent/watch                :
agent/admin                :
agent/metrics              :
agent/audit                :
agent/pulse                :
agent/record               : agent/audit imds/caller imds/gate imds/policy
agent/meter                : agent/admin agent/config agent/hostaddr agent/metrics imds imds/caller imds/gate rotation
agent/devsts               :
agent/docs                 : agent/config
agent                      : agent/* imds imds/* rotation rotation/* systemd
agent/e2e                  : agent agent/* imds imds/* rotation rotation/* systemd agent/e2e/machine
agent/e2e/runtimes         : agent agent/* imds imds/* rotation rotation/* systemd
agent/e2e/upstreams        :
agent/e2e/machine          :
agent/e2e/hostnet          : agent/e2e/machine
agent/e2e/installed        : agent/e2e/machine
agent/e2e/failures         :
agent/e2e/docs             : agent/e2e/machine
cmd/hostrole               : agent agent/config agent/admin agent/devsts agent/hostaddr rotation systemd cmd/hostrole/operator cmd/hostrole/live cmd/hostrole/setup
cmd/hostrole/operator      : agent/admin agent/config cmd/hostrole/page cmd/hostrole/profile cmd/hostrole/screen cmd/hostrole/subject imds/document
cmd/hostrole/subject       : agent/admin imds/caller/cgroup
cmd/hostrole/live          : agent agent/config agent/facts agent/report agent/roles cmd/hostrole/screen rotation rotation/credential rotation/source rotation/upstream
cmd/hostrole/page          : agent/admin cmd/hostrole/picture
cmd/hostrole/picture       : agent/admin cmd/hostrole/screen
cmd/hostrole/setup         : agent/config cmd/hostrole/live cmd/hostrole/operator cmd/hostrole/prompt
cmd/hostrole/prompt        : cmd/hostrole/screen
cmd/hostrole/profile       :
cmd/hostrole/screen        : agent/admin
`

// testImports is what tests may import beyond their package's line and the
// package itself: the doubles, which no other code may import, and what a test
// needs to put its subject to work.
const testImports = `
*                          : imds/imdstest imds/imdstest/ownnet rotation/source/sourcetest agent/devsts rotation/credential imds/caller
rotation/source/assumerole : rotation/source/static
agent/session              : agent/config agent/facts rotation/source
`

// doubles exist for tests. Only agent/devsts has a use in the product: demo.
const doubles = `imds/imdstest imds/imdstest/ownnet rotation/source/sourcetest agent/devsts agent/e2e agent/e2e/machine`

type library struct{ path, users, why string }

// libraries says who may import which module outside of tests. The list is
// short because each of them is read by the people who trust us with keys.
var libraries = []library{
	{"github.com/aws/aws-sdk-go-v2", "rotation/sts agent/devsts", "AWS's own client signs and parses; devsts checks with the same signer"},
	{"github.com/beevik/etree", "agent/devsts", "the tree that goxmldsig checks"},
	{"github.com/russellhaering/goxmldsig", "agent/devsts", "checks XML signatures as STS does"},
	{"github.com/aws/smithy-go", "rotation/sts", "the SDK's errors and middleware are its types"},
	{"github.com/coreos/go-systemd/v22", "systemd imds/caller/host", "notify, activation, journal; the unit behind a cgroup"},
	{"github.com/fsnotify/fsnotify", "agent/watch", "sooner than the next look at the files"},
	{"github.com/go-jose/go-jose/v4", "agent/devsts imds/eks imds/imdstest rotation/assertion agent", "verifies tokens, and signs private_key_jwt"},
	{"github.com/google/nftables", "agent/redirect", "rules of a firewall without a program"},
	{"github.com/hashicorp/go-retryablehttp", "rotation/upstream", "the one layer that retries"},
	{"github.com/mdlayher/netlink", "agent/redirect", "the sockets of nftables, which own its tables and hear its news"},
	{"github.com/pelletier/go-toml/v2", "agent/config", "strict, and has positions"},
	{"github.com/prometheus/client_golang", "agent/metrics", "metrics, in a registry of our own"},
	{"github.com/smallstep/pkcs7", "imds/document", "reads PKCS#7 from strangers, with EC2's open lengths"},
	{"github.com/spf13/cobra", "cmd/hostrole cmd/hostrole/operator cmd/hostrole/setup", "the command line"},
	{"github.com/spf13/pflag", "cmd/hostrole", "cobra's flags are its types"},
	{"github.com/vishvananda/netlink", "agent/hostaddr agent/facts agent/ingress cmd/hostrole agent/occupant", "addresses and links"},
	{"golang.org/x/oauth2", "rotation/assertion", "token endpoints"},
	{"golang.org/x/sync", "rotation imds agent imds/caller/runtime", "singleflight and semaphores"},
	{"golang.org/x/sys", "rotation/handover imds imds/caller/* imds/imdstest/ownnet agent agent/hostaddr agent/facts agent/admin agent/estate systemd cmd/hostrole cmd/hostrole/screen cmd/hostrole/prompt agent/redirect agent/occupant", "system calls that package syscall lacks"},
}

// A rule holds a deed to the files that it names. A file that it names without
// need fails the test, so that the list stays true.
type rule struct {
	what  string            // as deeds reports it; /... for all below a path
	tests bool              // tests may, too
	files map[string]string // pattern of path.Match: the reason
}

type files = map[string]string

var held = []rule{
	{`import "os/exec"`, true, files{
		"rotation/command/command.go":          "the programs that the operator named, for every source and assertion",
		"agent/e2e/machine/*_linux.go":         "a double: the systems that tests boot",
		"imds/imdstest/ownnet/ownnet_linux.go": "a double: a test binary starts itself again",
		"cmd/hostrole/demo.go":                 "demo -- CMD",
		"cmd/hostrole/setup/service.go":        "systemctl, once the operator has said yes",
		"cmd/hostrole/namespace_linux.go":      "demo starts itself in a namespace",
		"cmd/hostrole/main.go":                 "ends with the status of demo's command",
	}},
	{`import "log"`, false, nil},    // slog, handed down
	{`import "unsafe"`, false, nil}, // x/sys has what we need of it
	{`import "C"`, false, nil},      // one static binary
	{`import . "..."`, false, nil},  // hides what this test looks for
	{`import "testing"`, true, files{
		"rotation/source/sourcetest/*.go": "a suite that the tests of every source call",
		"imds/imdstest/ownnet/*_linux.go": "runs a package's tests, and skips those that lack something",
		"agent/e2e/machine/*_linux.go":    "ends what it started with the test that asked for it",
	}},
	{`import "text/template"`, true, nil}, // keeps the linker from dropping unused methods: megabytes
	{`import "html/template"`, true, nil},
	{`import "net/http/pprof"`, true, nil}, // registers itself on the default mux

	// Its chain of providers ends at our own address.
	{`import "github.com/aws/aws-sdk-go-v2/config/..."`, false, nil},
	{`import "github.com/vishvananda/netlink/..."`, true, files{
		"agent/hostaddr/*_linux.go":       "addresses and links",
		"agent/occupant/socket_linux.go":  "who listens on a port",
		"agent/ingress/devices_linux.go":  "the devices that listeners follow",
		"agent/facts/network_linux.go":    "the interfaces that the metadata tree shows",
		"cmd/hostrole/namespace_linux.go": "demo sets up lo in its namespace",
	}},

	{"os.Exit", true, files{
		"cmd/hostrole/main.go": "the one end of the program",
	}},
	{"time.Sleep", false, nil}, // a timer, and ctx.Done beside it
	{"wall clock", true, files{
		"agent/clock.go":                "makes Now, the only wall time that is compared with an expiry",
		"agent/clock_other.go":          "makes Boot of the time since start",
		"imds/server.go":                "deadlines of a connection, and how long a request took",
		"rotation/upstream/upstream.go": "time left until a context's deadline, and until an HTTP date; how old an address is",
		"cmd/hostrole/tour.go":          "demo shows a clock",
		"imds/caller/netns/door.go":     "how old is what is known of a link, by the monotonic clock",
	}},
	{"Reveal", true, files{
		"imds/ec2/iam.go":                           "the document that a workload gets",
		"rotation/sts/sts.go":                       "signs, and sends the web identity token",
		"rotation/credential/credential.go":         "looks at the form of a key before it is published",
		"rotation/assertion/assertion.go":           "reads the claims of our own token",
		"rotation/source/rolesanywhere/identity.go": "parses the private key",
		"rotation/source/vault/api.go":              "sends the login and the token",
		"rotation/source/cognito/api.go":            "sends the login's token",
		"rotation/source/instance/container.go":     "sends the container's authorization",
		"rotation/assertion/samlp/login.go":         "sends the password",
		"rotation/assertion/samlp/samlp.go":         "reads our own assertion",
		"rotation/sts/saml.go":                      "sends the assertion",
		"rotation/assertion/oidc.go":                "the token that is exchanged",
		"rotation/assertion/oidc_auth.go":           "the client's secret and key",
		"rotation/assertion/kubernetes.go":          "bearer tokens, also for Google, and its own subject",
		"rotation/assertion/google.go":              "the key file",
		"imds/ecs/document.go":                      "the document that a container gets",
		"imds/ecs/authorization.go":                 "compares the token of a full URI",
		"imds/eks/eks.go":                           "the document that a pod gets",
		"agent/roles/clients.go":                    "the key of the connection's own certificate",
		"rotation/handover/handover.go":             "writes what the next process serves",
		"rotation/handover/reboot.go":               "derives the key of the file that outlasts a reboot",
		"agent/identity.go":                         "parses the site key",
		"imds/process/process.go":                   "the document of credential_process",
		"rotation/source/static/static.go":          "an access key id is kept as a reference and is no secret",
		"rotation/upstream/clean.go":                "takes secrets out of upstream text",
	}},
	{"goroutine", true, files{
		"agent/facts/network_linux.go":             "ends the wait for news with its context",
		"agent/metrics/serve.go":                   "ends the server with its context; Serve waits for it",
		"agent/admin/server.go":                    "serves; Serve waits for it",
		"cmd/hostrole/page/page.go":                "serves; Serve waits for it",
		"agent/e2e/machine/machine_linux.go":       "a time limit on booting and stopping",
		"agent/redirect/kernel_linux.go":           "hears the kernel; Run waits for it",
		"agent/ingress/follow.go":                  "one a socket; Run waits for all",
		"agent/supervise.go":                       "the daemon's parts; supervise waits for all",
		"rotation/manager.go":                      "one a Rotator; Run waits for all",
		"imds/caller/netns/space_linux.go":         "a thread that enters a namespace; the asker waits for it",
		"imds/caller/netns/door.go":                "one waits for each door's process, one for all; Close waits for them",
		"imds/server.go":                           "one a connection; Serve waits for all",
		"cmd/hostrole/main.go":                     "gives the second signal back to the system",
		"cmd/hostrole/demo.go":                     "demo's STS, closed and waited for",
		"cmd/hostrole/tour.go":                     "demo's workload, which keeps asking",
		"rotation/source/sourcetest/sourcetest.go": "concurrent and cancelled fetches",
	}},
}

// long argues for a file over 500 lines, or a package over 1,000 without its
// tests: the path, and why it is better whole.
var long = files{
	"agent":          "the one package that knows both the configuration and the parts: each file puts one of them together",
	"agent/admin":    "one protocol: what its two ends say to each other, and both ends; apart they could differ",
	"agent/config":   "one contract: the structs, the one reader that goes by their tags, and its checks; a split would export the tree and the tags",
	"agent/devsts":   "every way in which STS refuses, in the one place that demo and the tests trust: signatures, tokens, assertions, parameters, faults",
	"agent/hostaddr": "one promise, that an address is there and nothing else is changed: its evidence, its keeper and its way back belong together",
	"rotation":       "one promise, that a credential is renewed in time: when, how often, for which keys, and what a failure is followed by",
	"imds":           "one connection from its arrival to its end: admission, reader, guard, answer and drain share state that nobody else may touch",
	"imds/imdstest":  "a double: listener, client and script runner are of no use apart",
}
