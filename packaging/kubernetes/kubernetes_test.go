// Package kubernetes_test looks at the manifests: what kustomize makes of them
// is what the API of Kubernetes takes, to the last field.
//
// # Why not
//
// Not a schema from a server: the types of the API are a Go module, and refuse
// what they do not know as the server does.
package kubernetes_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// build does what kubectl kustomize does.
func build(t *testing.T, folder string) resmap.ResMap {
	t.Helper()
	all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	return all
}

// withComponents is the base with both components, as an overlay has them.
func withComponents(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay")
	f, err := os.OpenFile(filepath.Join(overlay, "kustomization.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("components: [../kubelet, ../token-request]\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return overlay
}

func decode[T any](t *testing.T, text []byte) *T {
	t.Helper()
	v := new(T)
	if err := yaml.UnmarshalStrict(text, v); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
	return v
}

func TestManifestsAreWhatTheAPITakes(t *testing.T) {
	for name, folder := range map[string]string{"base": "base", "overlay": "overlay", "with both components": withComponents(t)} {
		t.Run(name, func(t *testing.T) {
			var kinds []string
			for _, r := range build(t, folder).Resources() {
				text, err := r.AsYAML()
				if err != nil {
					t.Fatal(err)
				}
				kinds = append(kinds, r.GetKind())
				switch r.GetApiVersion() + " " + r.GetKind() {
				case "v1 Namespace":
					decode[corev1.Namespace](t, text)
				case "v1 ServiceAccount":
					decode[corev1.ServiceAccount](t, text)
				case "v1 ConfigMap":
					check(t, decode[corev1.ConfigMap](t, text))
				case "apps/v1 DaemonSet":
					confined(t, decode[appsv1.DaemonSet](t, text))
				case "rbac.authorization.k8s.io/v1 Role":
					decode[rbacv1.Role](t, text)
				case "rbac.authorization.k8s.io/v1 RoleBinding":
					decode[rbacv1.RoleBinding](t, text)
				case "rbac.authorization.k8s.io/v1 ClusterRole":
					decode[rbacv1.ClusterRole](t, text)
				case "rbac.authorization.k8s.io/v1 ClusterRoleBinding":
					decode[rbacv1.ClusterRoleBinding](t, text)
				default:
					t.Errorf("nothing is known of %s %s", r.GetApiVersion(), r.GetKind())
				}
			}
			for _, want := range []string{"Namespace", "ServiceAccount", "ConfigMap", "DaemonSet"} {
				if !slices.Contains(kinds, want) {
					t.Errorf("there is no %s among %v", want, kinds)
				}
			}
			if name == "with both components" != slices.Contains(kinds, "ClusterRole") {
				t.Errorf("rights in the cluster: %v", kinds)
			}
		})
	}
}

// confined looks at what the pod may do.
func confined(t *testing.T, d *appsv1.DaemonSet) {
	t.Helper()
	pod := d.Spec.Template.Spec
	c := pod.Containers[0]
	s := c.SecurityContext
	switch {
	case !pod.HostNetwork || pod.HostPID || pod.HostIPC:
		t.Error("it has to have the node's network, and nothing else of the node's")
	case s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.Privileged != nil:
		t.Error("it is not confined")
	case !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || !slices.Equal(s.Capabilities.Add, []corev1.Capability{"NET_ADMIN", "NET_BIND_SERVICE"}):
		t.Errorf("its capabilities are %v", s.Capabilities)
	case d.Spec.UpdateStrategy.RollingUpdate.MaxSurge.IntValue() != 0:
		t.Error("two daemons would fight for the address")
	}
	mounted := map[string]bool{}
	for _, m := range c.VolumeMounts {
		mounted[m.Name] = true
	}
	for _, v := range pod.Volumes {
		if !mounted[v.Name] {
			t.Errorf("the volume %s is not mounted", v.Name)
		}
	}
	for key, value := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Labels[key] != value {
			t.Errorf("the selector asks for %s=%s, and the pods have %v", key, value, d.Spec.Template.Labels)
		}
	}
	if strings.HasPrefix(c.Image, "hostrole:") || !strings.Contains(c.Image, "/hostrole:") {
		t.Errorf("the image is %s", c.Image)
	}
}

// check has the program look at the configuration.
func check(t *testing.T, m *corev1.ConfigMap) {
	t.Helper()
	program := "../../build/hostrole"
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("HOSTROLE_E2E") == "require" {
			t.Fatalf("%v: run make build before", err)
		}
		t.Skipf("SKIPPED, missing: %v", err)
	}
	dir := t.TempDir()
	for name, text := range m.Data {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(program, "check", "--config", filepath.Join(dir, "hostrole.toml")).CombinedOutput()
	if err != nil || strings.Contains(string(out), "warning") {
		t.Errorf("hostrole check: %v\n%s", err, out)
	}
}
