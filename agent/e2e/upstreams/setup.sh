#!/usr/bin/env bash
# setup.sh gets the servers that the tests of this folder run.
#
#   agent/e2e/upstreams/setup.sh         versitygw and an OpenID provider: about a minute and a half the first time
#   agent/e2e/upstreams/setup.sh --all   also etcd, Kubernetes' API server and Vault: eight minutes more on two cores, and 4 GB
#
# agent/e2e/setup.sh calls it. Everything is kept by version in the folder that
# is described there; later times take a second. What is built is run and never
# linked.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${HOSTROLE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hostrole-e2e}
versitygw=v1.8.0
kubernetes=v1.37.2
all=''
case ${1:-} in
  "") ;;
  --all) all=1 ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

say() { printf 'setup: %s\n' "$*"; }
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

versity() {
  local to=$cache/versitygw-$versitygw
  [ ! -x "$to" ] || return 0
  rm -rf "$to.part"
  step "building versitygw $versitygw, about a minute" env GOBIN="$to.part" CGO_ENABLED=0 GOFLAGS= \
    nice -n 19 go install -p 2 -trimpath -ldflags '-s -w' "github.com/versity/versitygw/cmd/versitygw@$versitygw"
  mv "$to.part/versitygw" "$to"
  rmdir "$to.part"
}

# Vault is under the BUSL: it is built from its module, run, and never linked.
# Its own tree has the sdk as it was between two releases; of these, the newer
# one differs in the parameters of one function, which nothing here calls.
vault() {
  local version sdk to build
  version=$(sed -nE 's#^\s*github.com/hashicorp/vault (v\S+).*#\1#p' "$here/vault/go.mod")
  to=$cache/vault-$version
  [ ! -x "$to" ] || [ "$here/vault/main.go" -nt "$to" ] || return 0
  build=$(mktemp -d)
  cp -r "$here/vault" "$build/vault"
  step "fetching Vault $version" go mod download -C "$build/vault"
  sdk=$(go list -C "$build/vault" -m -f '{{.Dir}}' github.com/hashicorp/vault/sdk)
  cp -r "$sdk" "$build/sdk"
  chmod -R u+w "$build/sdk"
  sed -i -E 's#(ActivationFunc func\(context.Context, \*logical.Request), string\)#\1)#' "$build/sdk/framework/backend.go"
  go mod edit -C "$build/vault" -replace github.com/hashicorp/vault/sdk=../sdk
  step "building Vault $version, about four minutes" env CGO_ENABLED=0 nice -n 19 \
    go build -C "$build/vault" -mod=mod -p 2 -ldflags '-s -w' -o "$to.part" .
  rm -rf "$build"
  mv "$to.part" "$to"
}

# The module of Kubernetes names its libraries by folders that it does not have:
# they become the released modules of the same version.
kube_apiserver() {
  local to=$cache/kube-apiserver-$kubernetes dir build
  [ ! -x "$to" ] || return 0
  build=$(mktemp -d)
  dir=$(cd "$build" && printf 'module x\n\ngo 1.26\n' >go.mod && go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$dir" ]
  cp -r "$dir" "$build/src"
  chmod -R u+w "$build/src"
  rm -rf "$build/src/go.work" "$build/src/go.work.sum" "$build/src/vendor"
  sed -i -E "s#=> \./staging/src/(k8s.io/[a-z0-9-]+)#=> \1 v0${kubernetes#v1}#" "$build/src/go.mod"
  local at=k8s.io/component-base/version minor=${kubernetes#v1.}
  step "building kube-apiserver $kubernetes, about four minutes" env CGO_ENABLED=0 nice -n 19 \
    go build -C "$build/src" -mod=mod -p 2 -trimpath -o "$to.part" \
    -ldflags "-s -w -X $at.gitVersion=$kubernetes -X $at.gitMajor=1 -X $at.gitMinor=${minor%.*}" ./cmd/kube-apiserver
  chmod -R u+w "$build"
  rm -rf "$build"
  mv "$to.part" "$to"
}

# Of Debian's package only the program: the package would start a server.
etcd() {
  [ ! -x "$cache/etcd" ] || return 0
  if ! command -v apt-get >/dev/null; then say "left out: etcd: this is no Debian; put it at $cache/etcd by hand"; return 0; fi
  rm -rf "$cache/etcd.part"
  mkdir -p "$cache/etcd.part"
  step "fetching etcd" sh -c 'cd "$1" && apt-get -q download etcd-server && dpkg-deb --fsys-tarfile etcd-server_*.deb | tar -xf - ./usr/bin/etcd' sh "$cache/etcd.part"
  mv "$cache/etcd.part/usr/bin/etcd" "$cache/etcd"
  rm -rf "$cache/etcd.part"
}

oidc() {
  local to=$cache/oidc file same=1
  if ! command -v npm >/dev/null; then say "left out: the OpenID provider: no npm"; return 0; fi
  for file in "$here"/oidc/package*.json; do cmp -s "$file" "$to/${file##*/}" || same=; done
  [ -z "$same" ] || [ ! -d "$to/node_modules" ] || return 0
  rm -rf "$to" "$to.part"
  mkdir -p "$to.part"
  cp "$here"/oidc/package*.json "$to.part/"
  step "installing the OpenID provider" nice -n 19 npm --prefix "$to.part" ci --ignore-scripts --no-audit --no-fund
  mv "$to.part" "$to"
}

mkdir -p "$cache"
oidc
if ! command -v go >/dev/null; then say "left out: versitygw and what --all adds: no go"; exit 0; fi
step "building the SAML provider" nice -n 19 go build -C "$here/idp" -o /dev/null .
versity
if [ -n "$all" ]; then
  etcd
  kube_apiserver
  vault
fi
