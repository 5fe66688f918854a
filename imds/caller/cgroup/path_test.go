package cgroup_test

import (
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds/caller/cgroup"
)

const (
	a = "4f2b7c0e9d1a83564f2b7c0e9d1a83564f2b7c0e9d1a83564f2b7c0e9d1a8356"
	b = "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"

	pod  = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f6a1c2e_5d7b_4a39_8c1d_2e3f4a5b6c7d.slice"
	podV = "/kubepods/burstable/pod0f6a1c2e-5d7b-4a39-8c1d-2e3f4a5b6c7d"
	user = "/user.slice/user-1000.slice/user@1000.service"
)

type facts = cgroup.Facts

// of is the facts of a unit in a slice, and perhaps in a container.
func of(unit, slice string, container ...string) facts {
	f := facts{Unit: unit, Slice: slice}
	if len(container) > 0 {
		f.Container, f.Runtime = container[0], container[1]
	}
	return f
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path string
		want       facts
	}{
		{"the root", "/", facts{}},
		{"nothing", "", facts{}},
		{"a slice alone", "/system.slice", of("", "system.slice")},
		{"a service", "/system.slice/app.service", of("app.service", "system.slice")},
		{"a service of a template", "/system.slice/system-getty.slice/getty@tty1.service", of("getty@tty1.service", "system-getty.slice")},
		{"a service in a slice of its own", "/shop.slice/shop-web.slice/api.service", of("api.service", "shop-web.slice")},
		{"a service without a slice", "/init.scope", of("init.scope", "")},
		{"a name with escapes stays as systemctl shows it", `/system.slice/sync@srv-a\x2db.service`, of(`sync@srv-a\x2db.service`, "system.slice")},
		{"a name that the kernel could use", "/system.slice/_cgroup.service", of("cgroup.service", "system.slice")},
		{"a name that begins like such a one", "/system.slice/__app.service", of("_app.service", "system.slice")},
		{"a socket unit, a mount", "/system.slice/srv-data.mount", of("srv-data.mount", "system.slice")},
		{"below a service that has delegation", "/system.slice/app.service/worker/7", of("app.service", "system.slice")},
		{"a transient unit", "/system.slice/run-r4f2b7c0e9d1a8356.scope", of("run-r4f2b7c0e9d1a8356.scope", "system.slice")},
		{"a session", "/user.slice/user-1000.slice/session-3.scope", of("session-3.scope", "user-1000.slice")},
		{"a user's manager", user + "/init.scope", of("user@1000.service", "user-1000.slice")},
		{"a user's service", user + "/app.slice/app.service", of("user@1000.service", "user-1000.slice")},
		{"a host without systemd", "/openrc.sshd", facts{}},

		{"Docker", "/system.slice/docker-" + a + ".scope", of("docker-"+a+".scope", "system.slice", a, "docker")},
		{"Docker with a parent", "/shop.slice/docker-" + a + ".scope", of("docker-"+a+".scope", "shop.slice", a, "docker")},
		{"Docker with cgroupfs", "/docker/" + a, of("", "", a, "docker")},
		{"what systemd runs in Docker", "/docker/" + a + "/system.slice/app.service", of("", "", a, "docker")},
		{"a build in Docker", "/docker/buildkit/yj3zl4m6ycz5vl7t3dz3x9e2k", of("", "", "yj3zl4m6ycz5vl7t3dz3x9e2k", "buildkit")},
		{"Docker's daemon", "/system.slice/docker.service", of("docker.service", "system.slice")},
		{"rootless Docker", user + "/user.slice/docker-" + a + ".scope", of("user@1000.service", "user-1000.slice", "user@1000.service/"+a, "docker")},
		{"a task of ECS", "/ecs/0123456789abcdef0123456789abcdef/" + a, of("", "", a, "docker")},
		{"a task of ECS with systemd", "/ecstasks.slice/ecstasks-0123456789abcdef0123456789abcdef.slice/docker-" + a + ".scope",
			of("docker-"+a+".scope", "ecstasks-0123456789abcdef0123456789abcdef.slice", a, "docker")},
		{"Podman", "/machine.slice/libpod-" + a + ".scope", of("libpod-"+a+".scope", "machine.slice", a, "podman")},
		{"Podman, with its folder", "/machine.slice/libpod-" + a + ".scope/container", of("libpod-"+a+".scope", "machine.slice", a, "podman")},
		{"Podman, what systemd runs inside", "/machine.slice/libpod-" + a + ".scope/container/system.slice/app.service", of("libpod-"+a+".scope", "machine.slice", a, "podman")},
		{"Podman in a pod", "/machine.slice/machine-libpod_pod_" + b + ".slice/libpod-" + a + ".scope", of("libpod-"+a+".scope", "machine-libpod_pod_"+b+".slice", a, "podman")},
		{"Podman with cgroupfs", "/libpod_parent/libpod-" + a, of("", "", a, "podman")},
		{"Podman with cgroupfs in a pod", "/libpod_parent/" + b + "/libpod-" + a, of("", "", a, "podman")},
		{"Podman's monitor", "/machine.slice/libpod-conmon-" + a + ".scope", of("libpod-conmon-"+a+".scope", "machine.slice")},
		{"a service of Podman", "/system.slice/shop.service/libpod-payload-" + a, of("shop.service", "system.slice", "shop.service/"+a, "podman")},
		{"rootless Podman", user + "/user.slice/libpod-" + a + ".scope/container", of("user@1000.service", "user-1000.slice", "user@1000.service/"+a, "podman")},
		{"rootless Podman's way into the network", user + "/user.slice/podman-4711.scope", of("user@1000.service", "user-1000.slice", "user@1000.service/podman-4711.scope", "podman")},
		{"rootless Podman's shared way into the network", user + "/user.slice/rootless-netns-1a2b.scope", of("user@1000.service", "user-1000.slice", "user@1000.service/rootless-netns-1a2b.scope", "podman")},
		{"Podman that is no user's", "/system.slice/podman-4711.scope", of("podman-4711.scope", "system.slice")},
		{"nerdctl", "/system.slice/nerdctl-" + a + ".scope", of("nerdctl-"+a+".scope", "system.slice", a, "containerd")},
		{"ctr, with a name for an id", "/default/web", of("", "", "web", "containerd")},
		{"what a container of ctr's has made", "/default/web/system.slice/app.service", of("", "", "web", "containerd")},
		{"a folder that is only called as containerd's", "/system.slice/app.service/default/web", of("app.service", "system.slice")},
		{"nerdctl with cgroupfs", "/default/" + a, of("", "", a, "")},

		{"Kubernetes with containerd", pod + "/cri-containerd-" + a + ".scope", of("cri-containerd-"+a+".scope", pod[strings.LastIndexByte(pod, '/')+1:], a, "containerd")},
		{"Kubernetes with CRI-O", pod + "/crio-" + a + ".scope", of("crio-"+a+".scope", pod[strings.LastIndexByte(pod, '/')+1:], a, "cri-o")},
		{"CRI-O's folder", pod + "/crio-" + a + ".scope/container", of("crio-"+a+".scope", pod[strings.LastIndexByte(pod, '/')+1:], a, "cri-o")},
		{"CRI-O's monitor", pod + "/crio-conmon-" + a + ".scope", of("crio-conmon-"+a+".scope", pod[strings.LastIndexByte(pod, '/')+1:])},
		{"Kubernetes with Docker", pod + "/docker-" + a + ".scope", of("docker-"+a+".scope", pod[strings.LastIndexByte(pod, '/')+1:], a, "docker")},
		{"Kubernetes with cgroupfs", podV + "/" + a, of("", "", a, "kubernetes")},
		{"CRI-O with cgroupfs", podV + "/crio-" + a, of("", "", a, "cri-o")},
		{"a pod alone", podV, facts{}},
		{"containerd that took a slice for a folder", "/system.slice/containerd.service/kubepods-besteffort-pod0f6a.slice:cri-containerd:" + a,
			of("containerd.service", "system.slice", "containerd.service/"+a, "containerd")},
		{"a slice for a folder at the root", "/kubepods-besteffort-pod0f6a.slice:cri-containerd:" + a, of("", "", a, "containerd")},
		{"the kubelet", "/system.slice/kubelet.service", of("kubelet.service", "system.slice")},

		{"nspawn", "/machine.slice/machine-web.scope/payload/system.slice/app.service", of("machine-web.scope", "machine.slice", "web", "systemd-nspawn")},
		{"nspawn with a name that is escaped", `/machine.slice/machine-web\x2d1.scope/payload`, of(`machine-web\x2d1.scope`, "machine.slice", "web-1", "systemd-nspawn")},
		{"nspawn as a service", "/machine.slice/systemd-nspawn@web.service/payload/init.scope", of("systemd-nspawn@web.service", "machine.slice", "web", "systemd-nspawn")},
		{"nspawn's own folder", "/machine.slice/systemd-nspawn@web.service/supervisor", of("systemd-nspawn@web.service", "machine.slice", "web", "systemd-nspawn")},
		{"a machine of libvirt", `/machine.slice/machine-qemu\x2d3\x2dweb.scope/libvirt/emulator`, of(`machine-qemu\x2d3\x2dweb.scope`, "machine.slice", "qemu-3-web", "libvirt")},
		{"a container of libvirt", `/machine.slice/machine-lxc\x2d2814\x2dweb.scope`, of(`machine-lxc\x2d2814\x2dweb.scope`, "machine.slice", "lxc-2814-web", "libvirt")},
		{"a machine that is only called so", `/machine.slice/machine-qemu\x2dweb.scope`, of(`machine-qemu\x2dweb.scope`, "machine.slice", "qemu-web", "systemd-nspawn")},
		{"a machine with a name that cannot be", `/machine.slice/machine-a\x2fb.scope`, of(`machine-a\x2fb.scope`, "machine.slice")},
		{"LXC", "/lxc.payload.web/system.slice/app.service", of("", "", "web", "lxc")},
		{"LXC, in folders", "/lxc/web/init.scope", of("", "", "web", "lxc")},
		{"LXC, in folders of another name", "/lxc.payload/web", of("", "", "web", "lxc")},
		{"LXC's monitor", "/lxc.monitor.web", facts{}},
		{"LXC of a user", user + "/app.slice/run-r1.scope/lxc.payload.web", of("user@1000.service", "user-1000.slice", "user@1000.service/web", "lxc")},

		{"Docker in LXC", "/lxc.payload.web/system.slice/docker-" + a + ".scope", of("", "", "web/"+a, "docker")},
		{"a container of Kubernetes in Docker", "/system.slice/docker-" + a + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice/cri-containerd-" + b + ".scope",
			of("docker-"+a+".scope", "system.slice", a+"/"+b, "containerd")},
		{"Podman in Podman", "/machine.slice/libpod-" + a + ".scope/container/libpod_parent/libpod-" + b, of("libpod-"+a+".scope", "machine.slice", a+"/"+b, "podman")},
		{"three of them", "/docker/" + a + "/docker/" + b + "/lxc.payload.web", of("", "", a+"/"+b+"/web", "lxc")},
		{"a container in a folder of nobody", "/payload/system.slice/docker-" + a + ".scope", of("", "", "payload/"+a, "docker")},
		{"a container in a folder of a strange name", "/a b/docker-" + a + ".scope", of("", "", "?/"+a, "docker")},

		{"LXC in LXC", "/lxc/web/lxc/db", of("", "", "web/db", "lxc")},
		{"a service that calls its own like Podman does", "/system.slice/ci.service/podman-4711.scope", of("ci.service", "system.slice")},
		{"a machine that is hidden", "/lxc.payload..web", facts{}},
		{"a machine with a name that is too long", "/lxc.payload." + a + "0", facts{}},
		{"a unit with a name that is too long", "/system.slice/" + strings.Repeat("a", 248) + ".service", of("", "system.slice")},
		{"a unit with the longest name", "/system.slice/" + strings.Repeat("a", 247) + ".service", of(strings.Repeat("a", 247)+".service", "system.slice")},
		{"an id that is too short", "/docker/" + a[1:], facts{}},
		{"an id that is too long", "/docker/" + a + "0", facts{}},
		{"an id in capitals", "/docker/" + strings.ToUpper(a), facts{}},
		{"a scope of another kind", "/system.slice/docker-" + a + ".service", of("docker-"+a+".service", "system.slice")},
	} {
		if got := cgroup.Parse(c.path); got != c.want {
			t.Errorf("%s: %s is\n%+v, want\n%+v", c.name, c.path, got, c.want)
		}
	}
}

// A user's manager gives its cgroups to the user, who may name what is below
// as anything that there is. So does a service that has delegation, and a
// container that may write its own tree.
func TestNoNameIsForged(t *testing.T) {
	t.Parallel()
	coveted := []string{
		"/system.slice/app.service", "/app.service", "/system.slice", "/init.scope", "/machine.slice/machine-web.scope", "/machine.slice/systemd-nspawn@web.service",
		"/system.slice/docker-" + a + ".scope", "/docker/" + a, "/" + a, "/libpod_parent/libpod-" + a, "/lxc.payload.web", "/lxc/web", "/lxc.payload/web", "/user@1001.service",
		"/docker/buildkit/" + b[:25], "/ecs/" + a, podV + "/" + a, pod + "/cri-containerd-" + a + ".scope", "/x.slice:cri-containerd:" + a, "/podman-7.scope", "/default/" + a,
	}
	for _, where := range []struct {
		path, inside string
	}{
		{user, "user@1000.service"}, {user + "/app.slice", "user@1000.service"}, {user + "/..", "user@1000.service"},
		{"/system.slice/ci.service", "ci.service"}, {"/user.slice/user-1000.slice/session-3.scope", "session-3.scope"},
		{"/machine.slice/libpod-" + b + ".scope", b}, {"/machine.slice/libpod-" + b + ".scope/container", b}, {"/docker/" + b, b},
		{"/machine.slice/machine-guest.scope/payload", "guest"}, {"/lxc.payload.guest", "guest"}, {"/payload", "payload"},
	} {
		honest := cgroup.Parse(where.path)
		for _, c := range coveted {
			got := cgroup.Parse(where.path + c)
			if got.Unit != honest.Unit || got.Slice != honest.Slice {
				t.Errorf("%s%s is of %q in %q, want %q in %q", where.path, c, got.Unit, got.Slice, honest.Unit, honest.Slice)
			}
			if got.Container != honest.Container && !strings.HasPrefix(got.Container, where.inside+"/") {
				t.Errorf("%s%s is in container %q, which does not begin with %q", where.path, c, got.Container, where.inside+"/")
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, path := range []string{
		"/", "/system.slice/app.service", "/system.slice/docker-" + a + ".scope", podV + "/" + a, user + "/user.slice/libpod-" + a + ".scope/container", "/docker/buildkit/x",
		"/lxc.payload.web/lxc/web", `/machine.slice/machine-a\x2d\x.scope`, "/x.slice:cri-containerd:" + a, "/_a.service/__b", "//.slice/.service", "/-.slice/@.service/\x00",
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := cgroup.Parse(path)
		for _, s := range []string{got.Unit, got.Slice, got.Runtime} {
			if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '"' }) {
				t.Errorf("%q has %q in its facts", path, s)
			}
		}
		if strings.ContainsFunc(got.Container, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '*' }) || strings.HasPrefix(got.Container, "/") {
			t.Errorf("%q is in container %q", path, got.Container)
		}
		if got.Runtime != "" && got.Container == "" {
			t.Errorf("%q is in no container and has the runtime %q", path, got.Runtime)
		}
		for name := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
			if got.Unit != "" && !strings.HasSuffix(name, ".slice") {
				if got.Unit != strings.TrimPrefix(name, "_") {
					t.Errorf("%q is of %q, and not of the first name that is no slice", path, got.Unit)
				}
				break
			}
		}
		// Whatever is put below belongs to whom it is put below.
		below := cgroup.Parse(user + "/" + path)
		if below.Unit != "user@1000.service" || below.Slice != "user-1000.slice" || below.Container != "" && !strings.HasPrefix(below.Container, "user@1000.service/") {
			t.Errorf("a user's %q passes for %+v", path, below)
		}
		below = cgroup.Parse("/docker/" + b + "/" + path)
		if below.Unit != "" || below.Slice != "" || below.Container != b && !strings.HasPrefix(below.Container, b+"/") {
			t.Errorf("a container's %q passes for %+v", path, below)
		}
	})
}
