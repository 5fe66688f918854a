#!/usr/bin/env bash
# setup.sh gets the network managers that the tests of this folder run: Debian's
# NetworkManager, netplan and dhclient, as packages, and installs none of them.
# systemd-networkd is part of Debian's systemd.
#
# They are kept in ${HOSTROLE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hostrole-e2e}/hostnet-bookworm.
set -euo pipefail
cache=${HOSTROLE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hostrole-e2e}
want="network-manager netplan.io isc-dhcp-client"
to=$cache/hostnet-bookworm
say() { printf 'setup: %s\n' "$*"; }

if [ "$(cat "$to/made-of" 2>/dev/null)" = "$want" ]; then exit 0; fi
if ! command -v apt-get >/dev/null; then say "left out: network managers: this is no Debian"; exit 0; fi
# What these packages need and this machine has not: the tests run in a copy of it.
# shellcheck disable=SC2086 # words
needed() { apt-get -qs --no-install-recommends install $want 2>/dev/null | awk '/^Inst/ { print $2 }'; }
names=$(needed)
if [ -z "$names" ]; then
  if [ "$(id -u)" = 0 ]; then apt-get -q update >/dev/null; elif command -v sudo >/dev/null; then sudo -n apt-get -q update >/dev/null || :; fi
  names=$(needed)
fi
say "fetching network managers ..."
rm -rf "$to.part"
mkdir -p "$to.part"
log=$(mktemp)
# shellcheck disable=SC2086
if [ -n "$names" ] && ! (cd "$to.part" && apt-get -q -o APT::Sandbox::User=root download $names) >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  rm -f "$log"
  exit 1
fi
rm -f "$log"
printf '%s\n' "$want" >"$to.part/made-of"
rm -rf "$to"
mv "$to.part" "$to"
say "network managers are in $to"
