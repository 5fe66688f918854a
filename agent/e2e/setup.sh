#!/usr/bin/env bash
# setup.sh gets what the whole-program tests need and the machine has not:
# Debian packages, MinIO, the Go and JavaScript clients, a Ceph tree.
#
#   agent/e2e/setup.sh           everything; the first time about 5 minutes on two cores, later a second
#   agent/e2e/setup.sh --quick   without MinIO, Ceph and npm
#
# Big things are kept by version in ${HOSTROLE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hostrole-e2e}.
# As root, or with sudo that asks nothing, it installs packages; else it says
# what was left out, and the tests that need it skip with the same words.
# One heavy build at a time: a small machine has other work to do.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # where an ordinary user's shell does not look
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${HOSTROLE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hostrole-e2e}
debian=bookworm # the release whose ceph the tests were written for
quick=
case ${1:-} in
  "") ;;
  --quick) quick=1 ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

left_out=()
say() { printf 'setup: %s\n' "$*"; }
skip() { left_out+=("$*"); say "left out: $*"; }
# step TEXT COMMAND... runs COMMAND quietly; its output is shown when it fails.
step() {
  local text=$1 log start=$SECONDS; shift
  say "$text ..."
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then
    say "$text: done in $((SECONDS - start)) s"
    rm -f "$log"
  else
    say "$text: FAILED" >&2
    tail -n 40 "$log" >&2
    rm -f "$log"
    return 1
  fi
}

sudo=
if [ "$(id -u)" != 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo="sudo -n"; else sudo=none; fi
fi

packages() {
  local want=() pair pairs="wrk=wrk ip=iproute2 unshare=util-linux curl=curl python3=python3 aws=awscli" # command=package
  [ -n "$quick" ] || pairs="$pairs node=nodejs npm=npm debootstrap=debootstrap"
  for pair in $pairs; do
    command -v "${pair%%=*}" >/dev/null || want+=("${pair#*=}")
  done
  python3 -c 'import boto3' 2>/dev/null || want+=(python3-boto3)
  [ ${#want[@]} != 0 ] || return 0
  if [ "$sudo" = none ]; then
    skip "Debian packages ${want[*]}: needs root"
  elif ! command -v apt-get >/dev/null; then
    skip "${want[*]}: this is no Debian; install them by hand"
  else
    step "reading the lists of packages" $sudo apt-get -q update
    step "installing ${want[*]}" $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${want[@]}"
  fi
}

# The test builds this itself, offline; here its modules are fetched and its
# packages compiled.
go_clients() {
  step "building the Go clients" nice -n 19 go build -C "$here/clients" -p 2 -trimpath -o /dev/null .
}

# MinIO is under the AGPL: it is built from its module, run, and never linked.
minio() {
  local version
  version=$(cd "$here/minio" && go list -m -f '{{.Version}}' github.com/minio/minio)
  [ ! -x "$cache/minio-$version" ] || return 0
  step "building MinIO $version, about two minutes" env CGO_ENABLED=0 nice -n 19 \
    go build -C "$here/minio" -p 2 -trimpath -tags kqueue -ldflags '-s -w' -o "$cache/minio-$version.part" github.com/minio/minio
  mv "$cache/minio-$version.part" "$cache/minio-$version"
}

# node_modules is made anew when the lock file differs from the one it was
# made from, which lies beside it.
node_modules() {
  if ! command -v npm >/dev/null; then skip "the JavaScript client: no npm"; return 0; fi
  ! cmp -s "$here/clients/node/package-lock.json" "$cache/node/package-lock.json" || [ ! -d "$cache/node/node_modules" ] || return 0
  rm -rf "$cache/node" "$cache/node.part"
  mkdir -p "$cache/node.part"
  cp "$here/clients/node/package.json" "$here/clients/node/package-lock.json" "$cache/node.part/"
  step "installing the JavaScript client" nice -n 19 npm --prefix "$cache/node.part" ci --ignore-scripts --no-audit --no-fund
  mv "$cache/node.part" "$cache/node"
}

# ceph is a Debian tree of its own: the host gets none of its 877 MB of packages.
ceph() {
  local tree=$cache/ceph-$debian
  [ ! -x "$tree/usr/bin/radosgw" ] || return 0
  if [ "$(id -u)" != 0 ]; then skip "Ceph: needs root"; return 0; fi
  if ! command -v debootstrap >/dev/null; then skip "Ceph: no debootstrap"; return 0; fi
  rm -rf "$tree.part"
  step "making a Debian tree for Ceph, about a minute" nice -n 19 debootstrap --variant=minbase --include=ca-certificates "$debian" "$tree.part"
  printf '#!/bin/sh\nexit 101\n' >"$tree.part/usr/sbin/policy-rc.d" # no daemon is to start
  chmod +x "$tree.part/usr/sbin/policy-rc.d"
  step "installing Ceph into it, about a minute" nice -n 19 chroot "$tree.part" sh -c \
    'apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends ceph-mon ceph-osd radosgw ceph-common && apt-get clean'
  mv "$tree.part" "$tree"
}

mkdir -p "$cache"
packages
if command -v go >/dev/null; then go_clients; else skip "the Go clients and MinIO: no go"; fi
if [ -z "$quick" ]; then
  ! command -v go >/dev/null || minio
  node_modules
  ceph
fi
if [ ${#left_out[@]} != 0 ]; then say "ready, but for ${#left_out[@]} left out"; else say "ready: $cache"; fi
