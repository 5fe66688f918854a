package cgroup

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// Facts are what the path of a cgroup says. What it does not say is "".
type Facts struct {
	Unit      string // of the host's service manager, by the name that systemctl shows
	Slice     string // that the unit is in
	Container string // as in [caller.Caller]
	Runtime   string // of Container; "" for one that is not known
}

// The runtimes that leave their mark in a path.
const (
	BuildKit   = "buildkit"
	Containerd = "containerd" // by itself, nerdctl or Kubernetes
	CRIO       = "cri-o"
	Docker     = "docker"
	Kubernetes = "kubernetes" // whichever it uses
	Libvirt    = "libvirt"
	LXC        = "lxc" // and Incus and LXD
	Nspawn     = "systemd-nspawn"
	Podman     = "podman"
)

// Parse reads the path of a cgroup, from the root of the tree.
//
// Only the service manager makes what is in its slices, and the first name
// that is no slice is the unit. All below belongs to that unit, whose
// processes may have made it: it is no unit, whatever it is called. It may be
// a container, but then one by the unit's word, and named with it. The same
// goes for folders that are not known to be an engine's.
func Parse(path string) Facts {
	var f Facts
	var inside, parent, top string // the container so far, the name before, the first one
	slices := true
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if top == "" {
			top = name
		}
		own := strings.TrimPrefix(name, "_") // systemd's, before names that the kernel could use
		switch {
		case slices && isUnit(own, ".slice"):
			f.Slice = own
		case slices:
			slices = false
			if isUnit(own, ".service", ".scope", ".socket", ".mount", ".swap") {
				f.Unit = own
			}
			if id, runtime := container(name, parent, top); id != "" {
				inside, f.Container, f.Runtime = id, id, runtime
			} else {
				inside = owner(f.Unit, name)
			}
		default:
			id, runtime := container(name, parent, top)
			if id == "" && strings.HasPrefix(f.Unit, "user@") {
				id, runtime = network(name)
			}
			if id != "" {
				if inside != "" {
					id = inside + "/" + id
				}
				inside, f.Container, f.Runtime = id, id, runtime
			}
		}
		parent = name
	}
	return f
}

// owner is who may have made what is below the first name that is no slice. It
// is "" for the folders that container engines have to themselves.
func owner(unit, name string) string {
	switch {
	case unit != "":
		return unit
	case name == "docker", name == "libpod_parent", name == "kubepods", name == "ecs", name == "lxc", name == "lxc.payload", name == "default":
		return ""
	case !consists(name, `:-_.\@`):
		return "?"
	}
	return name
}

// isUnit reports whether name can be that of a unit of such a type.
func isUnit(name string, types ...string) bool {
	for _, t := range types {
		if stem, is := strings.CutSuffix(name, t); is {
			return len(name) <= 255 && consists(stem, `:-_.\@`)
		}
	}
	return false
}

// prefixes are those of the runtimes' own scopes. An id follows at once: what
// has "conmon-" in between is the runtime's monitor, outside of the container.
var prefixes = []struct{ prefix, runtime string }{
	{"docker", Docker}, {"cri-containerd", Containerd}, {"nerdctl", Containerd}, {"crio", CRIO}, {"libpod", Podman}, {"libpod-payload", Podman},
}

// container says which container the cgroup of that name is, if it is one.
// parent is the name before it and top is the first of the path.
func container(name, parent, top string) (id, runtime string) {
	stem := strings.TrimSuffix(name, ".scope")
	for _, p := range prefixes {
		if rest, is := strings.CutPrefix(stem, p.prefix+"-"); is && isID(rest) {
			return rest, p.runtime
		}
		// Where runc was given a slice, and took it for a folder.
		if at := strings.Index(name, ":"+p.prefix+":"); at >= 0 && isID(name[at+len(p.prefix)+2:]) {
			return name[at+len(p.prefix)+2:], p.runtime
		}
	}
	if isID(name) {
		switch {
		case top == "libpod_parent": // the pod; its containers are below
			return "", ""
		case top == "docker", top == "ecs":
			return name, Docker
		case strings.HasPrefix(top, "kubepods"):
			return name, Kubernetes
		}
		return name, ""
	}
	if top == "default" && parent == top && isMachine(name) { // containerd's namespace, where ids are what ctr was told
		return name, Containerd
	}
	if top == "docker" && parent == "buildkit" && isMachine(name) {
		return name, BuildKit
	}
	if machine, is := strings.CutPrefix(name, "lxc.payload."); is && isMachine(machine) {
		return machine, LXC
	}
	if (parent == "lxc" || parent == "lxc.payload") && isMachine(name) {
		return name, LXC
	}
	return machine(name)
}

// machine says which machine the unit of that name is, if it is one.
func machine(name string) (id, runtime string) {
	runtime = Nspawn
	stem, is := strings.CutPrefix(name, "systemd-nspawn@")
	if is {
		stem, is = strings.CutSuffix(stem, ".service")
	} else if stem, is = strings.CutPrefix(name, "machine-"); is {
		stem, is = strings.CutSuffix(stem, ".scope")
	}
	stem = unescape(stem)
	if !is || !isMachine(stem) {
		return "", ""
	}
	// "qemu-3-web" and "lxc-2814-web" are how libvirt registers its own.
	if kind, rest, _ := strings.Cut(stem, "-"); kind == "qemu" || kind == "lxc" {
		number, domain, _ := strings.Cut(rest, "-")
		if _, err := strconv.ParseUint(number, 10, 32); err == nil && domain != "" {
			runtime = Libvirt
		}
	}
	return stem, runtime
}

// network says whether the name is that of the scope in which rootless Podman
// has the processes that are its containers' way into the network. They dial
// for all of them, so that there is no id.
func network(name string) (id, runtime string) {
	stem, is := strings.CutSuffix(name, ".scope")
	if is && consists(stem, "-_") && (strings.HasPrefix(stem, "podman-") || strings.HasPrefix(stem, "rootless-netns-")) {
		return name, Podman
	}
	return "", ""
}

// isID reports whether s is an id as container engines make them.
func isID(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// isMachine reports whether s can be the name of a machine.
func isMachine(s string) bool { return len(s) <= 64 && s[:min(1, len(s))] != "." && consists(s, "-_.") }

// consists reports whether s is made of letters, digits and those others, and
// not empty.
func consists(s, others string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return s != ""
}

// unescape undoes what systemd does to names that become part of a unit's.
func unescape(s string) string {
	var b []byte
	for {
		at := strings.Index(s, `\x`)
		if at < 0 || len(s) < at+4 {
			return string(b) + s
		}
		c, err := hex.DecodeString(s[at+2 : at+4])
		if err != nil {
			return string(b) + s // systemd writes no such thing
		}
		b, s = append(append(b, s[:at]...), c...), s[at+4:]
	}
}
