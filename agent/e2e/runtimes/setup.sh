#!/usr/bin/env bash
# setup.sh installs the container runtimes that these tests run. They are not
# started on the machine itself.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
# command=package; the packages that one has use of are named with it
pairs="podman=podman runc=runc dockerd=docker.io containerd=containerd lxc-start=lxc slirp4netns=slirp4netns pasta=passt newuidmap=uidmap \
iptables=iptables systemd-nspawn=systemd-container nsenter=util-linux ip=iproute2"
want=()
for pair in $pairs; do
  command -v "${pair%%=*}" >/dev/null || want+=("${pair#*=}")
done
[ -x /usr/lib/podman/netavark ] || want+=(netavark aardvark-dns)
command -v conmon >/dev/null || want+=(conmon)
[ ${#want[@]} != 0 ] || exit 0
sudo=
if [ "$(id -u)" != 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo="sudo -n"; else
    echo "setup: left out: Debian packages ${want[*]}: needs root"
    exit 0
  fi
fi
if ! command -v apt-get >/dev/null; then
  echo "setup: left out: ${want[*]}: this is no Debian; install them by hand"
  exit 0
fi
echo "setup: installing ${want[*]} ..."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A daemon of the machine's own is not started: policy-rc.d says so, for this
# once, where there is none that says otherwise.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
  $sudo chmod 755 "$policy"
  trap 'rm -f "$log"; $sudo rm -f "$policy"' EXIT
fi
{ $sudo apt-get -q update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${want[@]}"; } >"$log" 2>&1 || {
  tail -n 40 "$log" >&2
  exit 1
}
