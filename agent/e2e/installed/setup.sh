#!/usr/bin/env bash
# setup.sh gets what the test on a virtual machine needs: qemu, Debian's kernel
# for clouds, and a small Debian tree that the machine boots. It takes one to two
# minutes, and `make qemu` runs it.
#
# The kernel and the tree are kept in
# ${HOSTROLE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hostrole-e2e}/qemu-bookworm.
set -euo pipefail
cache=${HOSTROLE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hostrole-e2e}
debian=bookworm
to=$cache/qemu-$debian
include=systemd,systemd-sysv,dbus,iproute2,procps,curl,kmod,nftables,ca-certificates
made="$debian $include"
say() { printf 'setup: %s\n' "$*"; }
# quiet COMMAND... shows what it wrote only when it fails.
quiet() {
  local log
  log=$(mktemp)
  "$@" >"$log" 2>&1 || { tail -n 20 "$log" >&2; rm -f "$log"; return 1; }
  rm -f "$log"
}

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  say "left out: a virtual machine: needs root on Debian"
  exit 0
fi
missing=()
for pair in qemu-system-x86_64=qemu-system-x86 cpio=cpio debootstrap=debootstrap; do
  command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
if [ ${#missing[@]} != 0 ]; then
  say "installing ${missing[*]} ..."
  quiet apt-get -q update
  quiet env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}"
fi
[ "$(cat "$to/made-of" 2>/dev/null)" != "$made" ] || exit 0
mkdir -p "$cache"
rm -rf "$to" "$to.part"
mkdir "$to.part"
say "fetching Debian's kernel ..."
kernel() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1; }
[ -n "$(kernel)" ] || quiet apt-get -q update
mkdir "$to.part/kernel"
(cd "$to.part/kernel" && quiet apt-get -q -o APT::Sandbox::User=root download "$(kernel)" && dpkg-deb -x linux-image-*.deb . && rm linux-image-*.deb)
say "making a Debian tree, about a minute ..."
quiet nice -n 19 debootstrap --variant=minbase --include="$include" "$debian" "$to.part/tree"
rm -rf "$to.part"/tree/var/cache/apt/* "$to.part"/tree/var/lib/apt/lists/*
printf '%s\n' "$made" >"$to.part/made-of"
mv "$to.part" "$to"
say "a virtual machine is in $to"
