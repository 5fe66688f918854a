package docs_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// answering runs a program on a terminal, waits for each of some questions and
// types the answer to it. It shows what stood on the terminal.
const answering = `
import json, os, pty, select, sys, time
argv, answers = sys.argv[2:], json.loads(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    os.execvp(argv[0], argv)
shown, seen, end = b"", 0, time.monotonic() + 60
while time.monotonic() < end:
    if not select.select([fd], [], [], 1)[0]:
        continue
    try:
        some = os.read(fd, 4096)
    except OSError:
        break
    if not some:
        break
    shown += some
    if answers and answers[0][0].encode() in shown[seen:]:
        seen = len(shown)
        os.write(fd, answers.pop(0)[1].encode() + b"\r")
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(shown)
if answers:
    print("\nnobody asked:", answers[0][0])
sys.exit(os.waitstatus_to_exitcode(status) or len(answers) and 1)
`

// TestFrontPage does what a new user does who has MinIO and has read README.md
// and nothing else: installs the package, answers what hostrole init asks on a
// terminal, and has a program put an object.
func TestFrontPage(t *testing.T) {
	t.Parallel()
	var commands []command
	for _, b := range blocks(t, "README.md") {
		if b.section == "Use it" && b.info == "console" {
			all, err := b.commands()
			if err != nil {
				t.Fatal(err)
			}
			commands = append(commands, all...)
		}
	}
	if len(commands) != 2 || commands[1].text != "sudo hostrole init" || !strings.HasPrefix(commands[0].text, "sudo apt install ./build/dist/") {
		t.Fatalf("the front page has %+v", commands)
	}
	m := boot(t, start{minio: true})
	m.Run(t, "sh", "-c", "cat "+at+"/minio-ca.crt >>/etc/ssl/certs/ca-certificates.crt; mkdir "+at+"/build; ln -s .. "+at+"/build/dist")
	began := time.Now()
	b := block{page: "README.md"}
	typed(t, m, b, commands[0])
	asked := [][2]string{
		{"is as the package brought it. Replace it?", "yes"},
		{"Source", "static"},
		{"region whose STS is asked", "us-east-1"},
		{"URL of the STS", "https://minio.example.com:9000"},
		{"Access key id", exampleKey},
		{"Secret access key, which is not shown", exampleSecret},
		{"Which role do programs get?", "arn:aws:iam::111122223333:role/app"},
		{"Who may use it?", "user:app"},
		{"Start the service", "yes"},
	}
	text, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	m.Write(t, "/opt/answering.py", answering)
	shown := m.Run(t, "python3", "/opt/answering.py", string(text), "hostrole", "init")
	if !strings.Contains(shown, "The service runs. Next: hostrole status") || strings.Contains(shown, exampleSecret) {
		t.Errorf("init shows:\n%s", shown)
	}
	m.Run(t, "hostrole", "wait", "--timeout", "30s")
	typed(t, m, b, command{text: "sudo -u app aws --endpoint-url https://minio.example.com:9000 --region us-east-1 s3 mb s3://first", want: []string{"make_bucket: first"}})
	t.Logf("2 commands, %d answers, wait and a call: %.1f s", len(asked), time.Since(began).Seconds())
}

// TestClusterCommands types what the pages have for a cluster and needs none, in
// a copy of the manifests: the folder is where kustomize finds its base, and the
// configuration in it is a good one.
func TestClusterCommands(t *testing.T) {
	release(t)
	found := 0
	for _, page := range []string{"packaging/docs/install.md", "packaging/docs/quickstart/kubernetes.md"} {
		for _, b := range blocks(t, page) {
			if !strings.HasPrefix(b.text, "$ cd packaging/kubernetes\n") {
				continue
			}
			found++
			all, err := b.commands()
			if err != nil {
				t.Fatal(err)
			}
			script, dir := "set -e\n", t.TempDir()
			if err := os.CopyFS(filepath.Join(dir, "packaging", "kubernetes"), os.DirFS(filepath.Join(root, "packaging", "kubernetes"))); err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				if first, _, _ := strings.Cut(c.text, " "); first != "kubectl" && first != "editor" {
					script += c.text + "\n"
				}
			}
			cmd := exec.Command("bash", "-c", script+"cat my-cluster/../base/kustomization.yaml")
			cmd.Dir = dir
			cmd.Env = []string{"PATH=" + filepath.Join(scratch, "build") + ":" + os.Getenv("PATH")}
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "my-cluster/hostrole.toml: good: ") {
				t.Errorf("%v: %v\n%s", b, err, out)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d blocks, want one of each page", found)
	}
}
