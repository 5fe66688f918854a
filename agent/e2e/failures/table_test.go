//go:build linux

package failures_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

// A failure is one that people meet.
type failure struct {
	symptom string // as the page has it
	made    func(t *testing.T) string
	says    []string // the cause and the remedy, in what was written; ** is anything
}

// role is a configuration with one role from one source.
func role(source, role string) string {
	return "LISTENER\n[source.host]\n" + source + "\n[role.app]\nfrom = \"source.host\"\n" + role + "\n[[allow]]\nany = true\nroles = [\"app\"]\n"
}

// ask makes a daemon ask an upstream, and returns its status once it failed.
func ask(t *testing.T, upstream, source, what string) string {
	h := newHost(t, "[upstream]\nregion = \"eu-central-1\"\ntimeout = \"2s\"\n"+upstream+"\n"+role(source, what))
	h.start()
	return h.status("NOT SERVED")
}

func endpoint(url string) string { return fmt.Sprintf("endpoint = %q", url) }

func is(name string) string { return fmt.Sprintf("arn = %q", arn(name)) }

func tokenOf(path string) string {
	return fmt.Sprintf("kind = \"web-identity\"\nassertion = { file = %q }", path)
}

// failures are what the page of troubles is made of.
var failures = []failure{
	// ---- The upstream says no -------------------------------------------------
	{"AccessDenied: the role does not trust this host", func(t *testing.T) string {
		return ask(t, endpoint(newSTS(t, 0, false).url), "KEYS", is("stranger"))
	}, []string{"AccessDenied", "check the role's trust policy: does it name this identity"}},
	{"AccessDenied: the external id is another", func(t *testing.T) string {
		return ask(t, endpoint(newSTS(t, 0, false).url), "KEYS", is("external")+"\nexternal_id = \"fra-dc3\"")
	}, []string{"AccessDenied", "check the role's trust policy: does it name this identity, and its external id"}},
	{"InvalidIdentityToken: the token is for another audience", func(t *testing.T) string {
		s := newSTS(t, 0, false)
		return ask(t, endpoint(s.url), tokenOf(s.token(t, map[string]any{"aud": "another"})), is("app"))
	}, []string{"InvalidIdentityToken: Incorrect token audience", "check the audience"}},
	{"InvalidIdentityToken: the account does not know the identity provider", func(t *testing.T) string {
		s := newSTS(t, 0, false)
		return ask(t, endpoint(s.url), tokenOf(s.token(t, map[string]any{"iss": "https://elsewhere.example.com"})), is("app"))
	}, []string{"InvalidIdentityToken: No OpenIDConnect provider found", "check the audience and the issuer that the role's account trusts"}},
	{"The token has expired", func(t *testing.T) string {
		s := newSTS(t, 0, false)
		return ask(t, endpoint(s.url), tokenOf(s.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})), is("app"))
	}, []string{"expired", "see what renews it"}},
	{"ValidationError: the session is longer than the role allows", func(t *testing.T) string {
		return ask(t, endpoint(newSTS(t, 0, false).url), "KEYS", is("app")+"\nduration = \"4h\"")
	}, []string{"ValidationError", "MaxSessionDuration", "check the role's duration"}},
	{"SignatureDoesNotMatch: the secret key is wrong", func(t *testing.T) string {
		key := file(t, strings.Repeat("notTheKey/", 4), 0o600)
		return ask(t, endpoint(newSTS(t, 0, false).url), fmt.Sprintf("kind = \"static\"\naccess_key_id = %q\nsecret_access_key = { file = %q }", keyID, key), is("app"))
	}, []string{"SignatureDoesNotMatch", "check the source's secret key"}},
	{"InvalidClientTokenId: the access key is unknown", func(t *testing.T) string {
		key := file(t, secret, 0o600)
		return ask(t, endpoint(newSTS(t, 0, false).url), fmt.Sprintf("kind = \"static\"\naccess_key_id = \"AKIAI44QH8DHBEXAMPLE\"\nsecret_access_key = { file = %q }", key), is("app"))
	}, []string{"InvalidClientTokenId", "check the source's key and the region's partition"}},
	{"RegionDisabledException: STS is off in that region", func(t *testing.T) string {
		return broken(t, "region-disabled")
	}, []string{"RegionDisabledException", "activate STS for this region in the role's account, or use another region"}},
	{"Throttling: too many hosts ask at once", func(t *testing.T) string {
		return broken(t, "throttling")
	}, []string{"Throttling: Rate exceeded", "splay"}},
	{"An answer that is none of STS: a proxy or a login page", func(t *testing.T) string {
		return broken(t, "http-502")
	}, []string{"HTTP status 502, and not in the form of STS", "check the endpoint, and whether a proxy answers in its place"}},

	// ---- The upstream is not there --------------------------------------------
	{"The upstream's certificate is not trusted", func(t *testing.T) string {
		return ask(t, endpoint(newSTS(t, 0, true).url), "KEYS", is("app"))
	}, []string{"certificate signed by unknown authority", "name the certificate authority in ca_file"}},
	{"The upstream's name is unknown", func(t *testing.T) string {
		return ask(t, endpoint("https://sts.nowhere.invalid"), "KEYS", is("app"))
	}, []string{"lookup sts.nowhere.invalid", "resolver"}},
	{"connection refused", func(t *testing.T) string {
		return ask(t, endpoint("http://127.0.0.1:1"), "KEYS", is("app"))
	}, []string{"connection refused", "check the endpoint and its port: nothing listens there"}},
	{"No answer in time", func(t *testing.T) string {
		s := newSTS(t, 0, false)
		return func() string {
			l, err := net.Listen("tcp4", "127.0.0.1:0") // takes connections, and says nothing
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close(); _ = s })
			return ask(t, endpoint("http://"+l.Addr().String()), "KEYS", is("app"))
		}()
	}, []string{"no answer within 2s", "check the network, the firewall, and whether the upstream is reached by a proxy"}},
	{"This host's clock is wrong", func(t *testing.T) string {
		h := newHost(t, "[upstream]\nregion = \"eu-central-1\"\n"+endpoint(newSTS(t, 20*time.Minute, false).url)+"\n"+role("KEYS", is("app")))
		h.start()
		return h.status("This host's clock is ")
	}, []string{"This host's clock is ** behind that of the upstream of app: that is allowed for, but set it"}},

	// ---- This host's own identity ----------------------------------------------
	{"The token's file is not there", func(t *testing.T) string {
		return ask(t, endpoint("http://127.0.0.1:1"), tokenOf("/run/nobody/token"), is("app"))
	}, []string{"/run/nobody/token: no such file or directory", "see what writes it"}},
	{"A key that everybody can read", func(t *testing.T) string {
		return ask(t, endpoint("http://127.0.0.1:1"), fmt.Sprintf("kind = \"static\"\naccess_key_id = %q\nsecret_access_key = { file = %q }", keyID, file(t, secret, 0o644)), is("app"))
	}, []string{"chmod 600"}},
	{"The secret is not among the service's credentials", func(t *testing.T) string {
		return ask(t, endpoint("http://127.0.0.1:1"), fmt.Sprintf("kind = \"static\"\naccess_key_id = %q\nsecret_access_key = { credential = \"aws-secret\" }", keyID), is("app"))
	}, []string{"no systemd credential aws-secret", "give one with LoadCredential=aws-secret:PATH in the unit"}},
	{"A program that should print credentials fails", func(t *testing.T) string {
		return ask(t, "", "kind = \"process\"\ncommand = [\"/bin/sh\", \"-c\", \"echo no session >&2; exit 3\"]", "")
	}, []string{"/bin/sh: exit status 3: no session; run it by hand, as the daemon's user, to see more"}},

	// ---- Callers ----------------------------------------------------------------
	{"A program gets 404 for its role: no rule gives it one", func(t *testing.T) string {
		h := newHost(t, served(t, "user = [\"daemon\"]"))
		h.start()
		h.token("/latest/meta-data/iam/security-credentials/")
		if text := h.status("denied"); !strings.Contains(text, "root (0) on host") {
			t.Errorf("status does not say who was denied: %s", text)
		}
		return h.run("explain", "--user", "root")
	}, []string{"none of the 1 rules matches: the caller sees a host without a role", "does not match: the caller's user is root"}},
	{"A program gets 404 for a role by its name", func(t *testing.T) string {
		h := newHost(t, served(t, "any = true"))
		h.start()
		h.status("1 of 1 roles served")
		h.token("/latest/meta-data/iam/security-credentials/application")
		return h.status("application")
	}, []string{"root (0) on host application denied"}},
	{"A program gets 401: it speaks version 1 of the protocol", func(t *testing.T) string {
		h := newHost(t, served(t, "any = true"))
		h.start()
		if code := h.ask(http.MethodGet, "/latest/meta-data/"); code != http.StatusUnauthorized {
			t.Errorf("it is answered %d", code)
		}
		return h.status("REQUESTS")
	}, []string{"requests on listener host without a valid token are refused, the newest of uid 0 (root)", "needs a newer SDK, or tokens = \"optional\" in the configuration"}},
	{"A program gets 403: it asks through a proxy", func(t *testing.T) string {
		h := newHost(t, served(t, "any = true"))
		h.start()
		if code := h.ask(http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60", "X-Forwarded-For", "10.0.0.1"); code != http.StatusForbidden {
			t.Errorf("it is answered %d", code)
		}
		return h.status("REQUESTS")
	}, []string{"with marks of a proxy or a browser, are refused", "have that program ask without a proxy, with NO_PROXY=169.254.169.254"}},
	{"A container gets no answer at all", func(t *testing.T) string {
		h := newHost(t, served(t, "any = true"))
		h.start()
		return h.run("explain", "--pid", box(t))
	}, []string{"It is in a network of its own, as containers are, and no listener serves one", "Add a [[listener]] whose ingress is the bridge that it is on, such as docker0"}},
	{"A listener waits for its device", func(t *testing.T) string {
		h := newHost(t, strings.Replace(served(t, "any = true"), "LISTENER", "LISTENER\n[[listener]]\nname = \"docker\"\nkind = \"imds\"\naddress = [\"169.254.169.254:80\"]\ningress = \"docker0\"\n", 1))
		h.start()
		return h.status("waits for a device")
	}, []string{"waits for a device docker0"}},
	{"A container within a container gets no token", func(t *testing.T) string {
		outer, inner := box(t), box(t)
		must(t, "ip", "link", "add", "hr-br", "type", "bridge")
		t.Cleanup(func() { must(t, "ip", "link", "del", "hr-br") })
		must(t, "ip", "addr", "add", "10.9.0.1/24", "dev", "hr-br")
		must(t, "ip", "link", "set", "hr-br", "up")
		must(t, "ip", "link", "add", "hr-out", "type", "veth", "peer", "name", "eth0", "netns", outer)
		must(t, "ip", "link", "set", "hr-out", "master", "hr-br", "up")
		must(t, "ip", "route", "add", "10.8.0.0/24", "via", "10.9.0.2", "dev", "hr-br")
		within(t, outer, `ip addr add 10.9.0.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.9.0.1 &&
			ip link add in0 type veth peer name eth0 netns `+inner+` && ip addr add 10.8.0.1/24 dev in0 && ip link set in0 up && echo 1 >/proc/sys/net/ipv4/ip_forward`)
		within(t, inner, "ip addr add 10.8.0.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.8.0.1")
		h := newHost(t, strings.Replace(served(t, "any = true"), "LISTENER", "[[listener]]\nname = \"boxes\"\nkind = \"imds\"\naddress = [\"169.254.169.254:80\"]\ningress = \"hr-br\"\n", 1))
		h.start()
		const ask = "curl -sS -m 2 -o /dev/null -w '%{http_code}' "
		const put = ask + "-X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
		if code := within(t, outer, put); code != "200" {
			t.Errorf("the outer one gets %s for a token", code)
		}
		if code := within(t, inner, ask+"http://169.254.169.254/latest/"); code != "401" {
			t.Errorf("the inner one does not reach the listener: %s", code)
		}
		if code := within(t, inner, put+" || true"); !strings.Contains(code, "timed out") {
			t.Errorf("the inner one gets %s for a token", code)
		}
		return h.run("explain", "--pid", inner)
	}, []string{"It is in a network of its own, as containers are: of the listeners it can ask boxes on hr-br alone", "with another router between, as in a container within a container, 1 is too few and the answer never arrives"}},
	{"credential-process is not permitted", func(t *testing.T) string {
		h := newHost(t, served(t, "user = [\"daemon\"]"))
		h.start()
		return h.runAs(12345, "credential-process")
	}, []string{"no rule gives uid 12345 a role", "`hostrole explain --uid 12345` says why"}},

	// ---- The daemon ---------------------------------------------------------------
	{"No daemon answers", func(t *testing.T) string {
		return newHost(t, "").run("status")
	}, []string{"no daemon answers on", "is hostrole running (systemctl status hostrole), and is this its socket"}},
	{"status is not permitted", func(t *testing.T) string {
		h := newHost(t, served(t, "any = true"))
		h.start()
		return h.runAs(12345, "status")
	}, []string{"only root and the daemon's own user may read this, and you are uid 12345", "[admin] of the configuration names no group"}},
	{"The port is taken", func(t *testing.T) string {
		h := newHost(t, served(t, "any = true"))
		l, err := net.Listen("tcp4", "127.0.0.1:"+h.port())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return h.fails()
	}, []string{"127.0.0.1:**address already in use", "ss -ltnp"}},
	{"A second daemon is started", func(t *testing.T) string {
		h := newHost(t, served(t, "any = true"))
		h.start()
		return h.fails()
	}, []string{"address already in use", "ss -ltnp"}},
	{"The daemon has no right to the address", func(t *testing.T) string {
		h := newHost(t, "[upstream]\nregion = \"eu-central-1\"\n"+endpoint("http://127.0.0.1:1")+"\n[[listener]]\nname = \"host\"\nkind = \"imds\"\naddress = [\"169.254.169.254:8080\"]\n[source.host]\nkind = \"process\"\ncommand = [\"/bin/true\"]\n[role.app]\nfrom = \"source.host\"\n[[allow]]\nany = true\nroles = [\"app\"]\n")
		return h.runAs(12345, "run", "--config", h.config)
	}, []string{"CAP_NET_ADMIN"}},
	{"Another program has the metadata address", func(t *testing.T) string {
		h := newHost(t, strings.Replace(served(t, "any = true"), "LISTENER", "[[listener]]\nname = \"host\"\nkind = \"imds\"\naddress = [\"169.254.169.254:80\"]\n", 1))
		must(t, "ip", "link", "add", "hr-rival", "type", "veth", "peer", "name", "hr-peer")
		t.Cleanup(func() { must(t, "ip", "link", "del", "hr-rival") })
		must(t, "ip", "addr", "add", "169.254.169.254/32", "dev", "hr-rival")
		must(t, "ip", "link", "set", "hr-rival", "up")
		return h.fails()
	}, []string{"169.254.169.254", "hr-rival"}},
	{"A mistake in the configuration", func(t *testing.T) string {
		h := newHost(t, strings.Replace(served(t, "any = true"), "region", "regoin", 1))
		return h.run("check", "--config", h.config)
	}, []string{"upstream.regoin: is not known; \"region\" was probably meant"}},
	{"A reload changes nothing", func(t *testing.T) string {
		h := newHost(t, served(t, "any = true"))
		h.start()
		h.write(strings.Replace(served(t, "any = true"), "any =", "ayn =", 1))
		h.run("reload")
		return h.status("CONFIG")
	}, []string{"the configuration on disk is not at work, and the one before it is", "ayn: is not known", "`hostrole check` says what to mend, and `hostrole reload` tries again"}},
	{"Nobody gets credentials, because decisions cannot be recorded", func(t *testing.T) string {
		h := newHost(t, served(t, "any = true"))
		full := filepath.Join(h.dir, "full")
		if err := os.Mkdir(full, 0o700); err != nil {
			t.Fatal(err)
		}
		must(t, "mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", full)
		t.Cleanup(func() { must(t, "umount", full) })
		h.write(served(t, "any = true") + fmt.Sprintf("[audit]\nfile = %q\nrequired = true\n", filepath.Join(full, "audit.jsonl")))
		h.start()
		h.status("1 of 1 roles served")
		for range 40 { // more than fits
			h.token("/latest/meta-data/iam/security-credentials/app")
		}
		return h.status("AUDIT")
	}, []string{"decisions cannot be recorded", "no space left on device", "no credential is given until it can be, because [audit] says required = true: make room on its disk"}},
	{"A role is not served, because an operator revoked it", func(t *testing.T) string {
		h := newHost(t, served(t, "any = true"))
		h.start()
		h.status("1 of 1 roles served")
		h.run("revoke", "app")
		return h.status("NOT SERVED")
	}, []string{"an operator revoked it; `hostrole reload` serves it again"}},
	{"IPv6 is off on this host", func(t *testing.T) string {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0o644); err != nil {
			ownnet.Missing(t, "IPv6 in this kernel, to turn it off: "+err.Error())
		}
		t.Cleanup(func() { _ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("0"), 0o644) })
		h := newHost(t, strings.Replace(served(t, "any = true"), "LISTENER", "[[listener]]\nname = \"host\"\nkind = \"imds\"\naddress = [\"169.254.169.254:80\", \"[fd00:ec2::254]:80\"]\n", 1))
		h.start()
		return h.status("fd00:ec2::254")
	}, []string{"fd00:ec2::254", "disable_ipv6"}},
}

// box is the id of a process in a network of its own.
func box(t *testing.T) string {
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return fmt.Sprint(cmd.Process.Pid)
}

// within runs a line of sh in the network of a process.
func within(t *testing.T, pid, line string) string {
	t.Helper()
	out, err := exec.Command("nsenter", "-t", pid, "-n", "sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

// broken is a status behind an upstream with a fault.
func broken(t *testing.T, fault string) string {
	s := newSTS(t, 0, false)
	breakIt(s, fault)
	return ask(t, endpoint(s.url), "KEYS", is("broken"))
}

// served is a configuration whose role is served to whom a rule names.
func served(t *testing.T, who string) string {
	return "[upstream]\nregion = \"eu-central-1\"\n" + endpoint(newSTS(t, 0, false).url) + "\nLISTENER\n[source.host]\nKEYS\n[role.app]\nfrom = \"source.host\"\n" + is("app") + "\n[[allow]]\n" + who + "\nroles = [\"app\"]\n"
}
