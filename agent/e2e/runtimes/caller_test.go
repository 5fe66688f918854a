//go:build linux

package runtimes_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

const (
	metadataHost = "169.254.169.254:80"
	bridgeName   = "br0"
	gateway      = "172.30.0.1"
)

// An asker is a process of some user, in some cgroup and network namespace,
// that asks for roles when it is told to. What it is stands here by how it was
// made, and not by what any kernel says of it.
type asker struct {
	uid             int
	unit, container string // by the cgroup that it was put into
	listener        string // that it can reach

	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (a *asker) String() string {
	return fmt.Sprintf("uid %d in unit %q, container %q, on %s", a.uid, a.unit, a.container, a.listener)
}

// begin starts a process in the cgroup at dir; one on a bridge has a network
// namespace with that address.
func (a *asker) begin(t *testing.T, dir, address string) {
	t.Helper()
	group, err := os.Open(dir) // #nosec G304 -- a folder that this test has made
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = group.Close() }()
	var flags uintptr
	if address != "" {
		flags = syscall.CLONE_NEWNET
	}
	a.cmd = ownnet.Command("asker", flags)
	a.cmd.Env = append(a.cmd.Env, "HOSTROLE_RUNTIMES_UID="+fmt.Sprint(a.uid))
	a.cmd.SysProcAttr.UseCgroupFD, a.cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	a.cmd.Stderr = os.Stderr
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.out = bufio.NewReader(out)
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.in.Close()
		_ = a.cmd.Wait()
	})
	if address == "" {
		return
	}
	port := "v" + strings.ReplaceAll(address, ".", "")[4:]
	pid := fmt.Sprint(a.cmd.Process.Pid)
	for _, args := range []string{
		"ip link add " + port + " type veth peer name eth0 netns " + pid,
		"ip link set " + port + " master " + bridgeName + " up",
		"nsenter -t " + pid + " -n ip link set lo up",
		"nsenter -t " + pid + " -n ip addr add " + address + "/24 dev eth0",
		"nsenter -t " + pid + " -n ip link set eth0 up",
		"nsenter -t " + pid + " -n ip route add default via " + gateway,
	} {
		run(t, strings.Fields(args)...)
	}
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil { // #nosec G204 -- the test's own words
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// An outcome is what one asker was given.
type outcome struct {
	Role   string // that the service lists as its own; "" is none
	Key    string // access key id of that role's document
	Other  int    // status of the document of the role that it was told to try
	Failed string // what went wrong
}

// ask has a ask for its role, and for another one by its name, which makes
// connections of its own for each request.
func (a *asker) ask(other string) (o outcome, err error) {
	if _, err := fmt.Fprintln(a.in, other); err != nil {
		return o, err
	}
	line, err := a.out.ReadBytes('\n')
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(line, &o)
}

// connections is how many one ask makes that are answered.
const connections = 4

// beAsker is what the process of an asker does.
func beAsker() error {
	var uid int
	if _, err := fmt.Sscan(os.Getenv("HOSTROLE_RUNTIMES_UID"), &uid); err != nil {
		return err
	}
	if err := syscall.Setresgid(uid, uid, uid); err != nil {
		return err
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		o, err := askOnce(client, in.Text())
		if err != nil {
			o.Failed = err.Error()
		}
		if err := out.Encode(o); err != nil {
			return err
		}
	}
	return nil
}

func askOnce(client *http.Client, other string) (o outcome, err error) {
	const path = "/latest/meta-data/iam/security-credentials/"
	// One that is gone before it is known: its answer is nobody's.
	if c, err := net.DialTimeout("tcp", metadataHost, 5*time.Second); err == nil {
		_, _ = io.WriteString(c, "GET "+path+other+" HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n")
		_ = c.Close()
	}
	status, token, err := request(client, http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	if err != nil || status != http.StatusOK {
		return o, fmt.Errorf("a token: %d, %w", status, err)
	}
	status, list, err := request(client, http.MethodGet, path, "X-aws-ec2-metadata-token", token)
	if err != nil {
		return o, err
	}
	if status == http.StatusOK {
		o.Role = strings.TrimSpace(list)
	}
	own := o.Role
	if own == "" {
		own = "none"
	}
	status, text, err := request(client, http.MethodGet, path+own, "X-aws-ec2-metadata-token", token)
	if err != nil {
		return o, err
	}
	var doc struct {
		AccessKeyID string `json:"AccessKeyId"`
	}
	if status == http.StatusOK && json.Unmarshal([]byte(text), &doc) == nil {
		o.Key = doc.AccessKeyID
	}
	o.Other, _, err = request(client, http.MethodGet, path+other, "X-aws-ec2-metadata-token", token)
	return o, err
}

func request(client *http.Client, method, path, header, value string) (int, string, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+metadataHost+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set(header, value)
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(body), err
}
