package docs_test

import (
	"slices"
	"strings"
	"testing"
)

// elsewhere are the blocks that are not typed by TestQuickStarts, by their page
// and their first command, with the reason and with what is shown of them all
// the same.
var elsewhere = []struct{ page, command, why string }{
	{"README.md", "make demo", "takes half a minute; the same tour, by the same binary, is run by cmd/hostrole's tests of demo"},
	{"README.md", "./build/hostrole demo -- aws sts get-caller-identity", "TestDemoCommands types it in a clone"},
	{"README.md", "sudo apt install ./build/dist/hostrole_*_amd64.deb", "TestFrontPage types it, and answers init on a terminal"},
	{"packaging/docs/README.md", "sudo hostrole status", "the three commands are on each quick start"},
	{"packaging/docs/install.md", "sudo dnf install ./hostrole-*.x86_64.rpm", "no dnf: the packages' own tests look into the rpm, and rpmlint does"},
	{"packaging/docs/install.md", "doas apk add --allow-untrusted hostrole_*_x86_64.apk", "no Alpine: the packages' own tests look into the apk"},
	{"packaging/docs/install.md", "podman load --input hostrole-*-image.tar", "an engine within the machine; the packages' own tests look into the image"},
	{"packaging/docs/install.md", "sudo podman run --detach --name hostrole --network host --user 0 --cap-drop all --cap-add net_admin,net_bind_service \\", "likewise; agent/e2e/runtimes has the engines"},
	{"packaging/docs/install.md", "cd packaging/kubernetes", "no cluster: TestClusterCommands types what needs none, and packaging/kubernetes holds the manifests against the API's types"},
	{"packaging/docs/quickstart/kubernetes.md", "cd packaging/kubernetes", "likewise"},
	{"packaging/docs/quickstart/kubernetes.md", "kubectl --namespace hostrole rollout status daemonset/hostrole", "no cluster"},
	{"packaging/docs/quickstart/oidc.md", "sudo hostrole init --region eu-central-1 --source web-identity --token file:/run/corp/token \\", "another way to the end of the same page; cmd/hostrole runs init for each kind of source"},
	{"packaging/docs/quickstart/minio.md", "radosgw-admin user create --uid host-7 --display-name host-7 --access-key AKIAIOSFODNN7EXAMPLE --gen-secret", "Ceph takes a minute to begin; agent/e2e makes the same user and role there"},
	{"packaging/docs/quickstart/containers.md", "sudo docker run --rm --name backup docker.io/amazon/aws-cli sts get-caller-identity --region eu-central-1", "an image from the Internet; agent/e2e/runtimes runs SDKs in containers of both engines by such rules"},
	{"packaging/docs/quickstart/containers.md", "sudo hostrole explain --container 3f4e1c9a77b2", "no container; agent/e2e/failures explains one"},
	{"packaging/docs/migrate.md", "sudo -u app aws configure list", "shows whatever the reader's machine has"},
	{"packaging/docs/rotation.md", "openssl rand -base64 33 | sudo systemd-creds encrypt --name=reboot-key - /etc/hostrole/reboot-key.cred", "makes a key of the machine that it would keep; rotation/handover tests the file"},
	{"packaging/docs/sources/vault.md", "vault secrets enable aws", "no Vault here: rotation/source/vault has a strict double"},
	{"packaging/docs/sources/web-identity.md", "aws iam create-open-id-connect-provider --url https://idp.example.com --client-id-list sts.amazonaws.com", "needs an account at AWS"},
}

// typedHere reports whether TestQuickStarts types a block.
func typedHere(b block) bool {
	for _, s := range starts {
		for _, p := range s.parts {
			if "packaging/docs/"+p.page == b.page && (p.sections == nil || slices.Contains(p.sections, b.section)) {
				return b.info == "console"
			}
		}
	}
	return false
}

// TestEveryBlockIsTyped: what a page tells people to type is typed by a test, or
// is in the table with the reason.
func TestEveryBlockIsTyped(t *testing.T) {
	used := map[int]bool{}
	total, here := 0, 0
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			switch b.info {
			case "console", "console elsewhere":
			case "sh", "bash", "shell":
				t.Errorf("%v: write commands into a block of console, each behind \"$ \"", b)
				continue
			default:
				continue
			}
			all, err := b.commands()
			if err != nil {
				t.Error(err)
				continue
			}
			total++
			if typedHere(b) {
				here++
				continue
			}
			first, _, _ := strings.Cut(all[0].text, "\n")
			listed := slices.IndexFunc(elsewhere, func(e struct{ page, command, why string }) bool { return e.page == b.page && e.command == first })
			if listed < 0 {
				t.Errorf("%v: nobody types %q: add the page to starts, or say in elsewhere why not", b, first)
				continue
			}
			used[listed] = true
		}
	}
	for i, e := range elsewhere {
		if !used[i] {
			t.Errorf("elsewhere: %s has no block that begins with %q, or it is typed", e.page, e.command)
		}
		if e.why == "" {
			t.Errorf("elsewhere: %s, %q: no reason", e.page, e.command)
		}
	}
	t.Logf("%d blocks, of which %d are typed", total, here)
}
