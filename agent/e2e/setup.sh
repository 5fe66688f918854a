#!/usr/bin/env bash
# setup.sh gets what the whole-program tests need and the machine has not:
# Debian packages, MinIO, the Go and JavaScript clients, a Ceph tree.
#
#   agent/e2e/setup.sh             everything but the last; the first time about 5 minutes on two cores, later a second
#   agent/e2e/setup.sh --quick     without MinIO, Ceph and npm
#   agent/e2e/setup.sh --clients   also a Debian tree of clients, Rust's SDK, OpenTofu; 6 minutes more, and 2 GB
#   agent/e2e/setup.sh --upstreams also Kubernetes' API server and Vault, for agent/e2e/upstreams; 8 minutes more, and 4 GB
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
quick='' clients='' upstreams=''
case ${1:-} in
  "") ;;
  --quick) quick=1 ;;
  --clients) clients=1 ;;
  --upstreams) upstreams=--all ;;
  *) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
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
  local want=() pair pairs="wrk=wrk ip=iproute2 unshare=util-linux curl=curl python3=python3 aws=awscli xmlsec1=xmlsec1 /usr/sbin/logrotate=logrotate systemd-nspawn=systemd-container nft=nftables ping=iputils-ping lintian=lintian rpmlint=rpmlint rpm=rpm cpio=cpio mandoc=mandoc groff=groff man=man-db podman=podman" # command=package
  [ -n "$quick" ] || pairs="$pairs node=nodejs npm=npm debootstrap=debootstrap chromium=chromium chromedriver=chromium-driver"
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

# Of Prometheus only what checks rules: its package would start a server.
promtool() {
  [ ! -x "$cache/promtool" ] || return 0
  if ! command -v apt-get >/dev/null; then skip "promtool: this is no Debian; put it on PATH by hand"; return 0; fi
  rm -rf "$cache/promtool.part"
  mkdir -p "$cache/promtool.part"
  step "fetching promtool" sh -c 'cd "$1" && apt-get -q download prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - ./usr/bin/promtool' sh "$cache/promtool.part"
  mv "$cache/promtool.part/usr/bin/promtool" "$cache/promtool"
  rm -rf "$cache/promtool.part"
}

# OpenTofu is under the MPL: as MinIO.
tofu() {
  local version
  version=$(cd "$here/tofu" && go list -m -f '{{.Version}}' github.com/opentofu/opentofu)
  [ ! -x "$cache/tofu-$version" ] || return 0
  step "building OpenTofu $version, about three minutes" env CGO_ENABLED=0 nice -n 19 \
    go build -C "$here/tofu" -p 2 -trimpath -ldflags '-s -w' -o "$cache/tofu-$version.part" github.com/opentofu/opentofu/cmd/tofu
  mv "$cache/tofu-$version.part" "$cache/tofu-$version"
}

# node_modules FOLDER installs what clients/FOLDER asks for. It is made anew
# when the files that it was made from differ; they lie beside it. rust has no
# lock file: npm cannot lock a native package whose other platforms it is not
# given, so its package.json names every version that matters.
node_modules() {
  local from=$here/clients/$1 to=$cache/$1 how=ci file
  if ! command -v npm >/dev/null; then skip "the JavaScript clients of $1: no npm"; return 0; fi
  [ -e "$from/package-lock.json" ] || how='install --omit=optional --no-package-lock'
  ! same_packages "$from" "$to" || return 0
  rm -rf "$to" "$to.part"
  mkdir -p "$to.part"
  for file in "$from"/package*.json; do cp "$file" "$to.part/"; done
  step "installing the JavaScript clients of $1" nice -n 19 npm --prefix "$to.part" $how --ignore-scripts --no-audit --no-fund
  mv "$to.part" "$to"
}
same_packages() {
  local file
  [ -d "$2/node_modules" ] || return 1
  for file in "$1"/package*.json; do cmp -s "$file" "$2/${file##*/}" || return 1; done
}

# debian_tree NAME PACKAGE... makes a Debian tree of its own: the host gets none
# of its packages.
debian_tree() {
  local name=$1 tree=$cache/$1-$debian made; shift
  made="$debian $*"
  [ "$(cat "$tree/made-of" 2>/dev/null)" != "$made" ] || return 0
  if [ "$(id -u)" != 0 ]; then skip "the tree $name: needs root"; return 0; fi
  if ! command -v debootstrap >/dev/null; then skip "the tree $name: no debootstrap"; return 0; fi
  rm -rf "$tree" "$tree.part"
  step "making a Debian tree for $name, about a minute" nice -n 19 debootstrap --variant=minbase --include=ca-certificates "$debian" "$tree.part"
  printf '#!/bin/sh\nexit 101\n' >"$tree.part/usr/sbin/policy-rc.d" # no daemon is to start
  chmod +x "$tree.part/usr/sbin/policy-rc.d"
  step "installing $name into it, about a minute" nice -n 19 chroot "$tree.part" sh -c \
    'apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" && apt-get clean' sh "$@"
  printf '%s\n' "$made" >"$tree.part/made-of"
  mv "$tree.part" "$tree"
}

mkdir -p "$cache"
packages
[ -n "$quick" ] || "$here/runtimes/setup.sh"
if command -v go >/dev/null; then go_clients; else skip "the Go clients and MinIO: no go"; fi
if [ -z "$quick" ]; then
  ! command -v go >/dev/null || minio
  node_modules node
  promtool
  debian_tree ceph ceph-mon ceph-osd radosgw ceph-common
  HOSTROLE_E2E_CACHE=$cache "$here/upstreams/setup.sh" $upstreams
fi
if [ -n "$clients" ]; then
  node_modules rust
  debian_tree clients awscli python3-boto3 cloud-init amazon-ec2-utils rclone s3cmd restic ruby-aws-sdk-s3 duplicity \
    cloud-utils prometheus s3fs pgbackrest curl amazon-ec2-net-utils
  if command -v go >/dev/null; then tofu; else skip "OpenTofu: no go"; fi
fi
if [ ${#left_out[@]} != 0 ]; then say "ready, but for ${#left_out[@]} left out"; else say "ready: $cache"; fi
