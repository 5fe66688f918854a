#!/usr/bin/env bash
# build.sh makes in a folder what the tests install: first.deb as the Makefile
# does, second.deb with another build of the program and a higher version, and
# the programs hostrole, clients and e2e.test, the tests of agent/e2e.
#
#   build.sh FOLDER NFPM
set -euo pipefail
to=$1 nfpm=$(readlink -f "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/../../../.."
root=$PWD arch=$(go env GOARCH)
export CGO_ENABLED=0 COMMIT=0123456789ab SOURCE_DATE_EPOCH=1700000000
# A copy: packaging/build writes below its own folder.
mkdir "$to/tree"
git -c safe.directory='*' ls-files -coz --exclude-standard | tar --null --ignore-failed-read -T - -cf - 2>/dev/null | tar -xf - -C "$to/tree"
cd "$to/tree"
program() { go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$1 -X main.commit=$COMMIT" -o "$2" ./cmd/hostrole; }
program v1.0.0 "$to/hostrole"
VERSION=v1.0.0 HOSTROLE=$to/hostrole NFPM=$nfpm DIST=$to/dist packaging/build deb "$arch"
mv "$to"/dist/*.deb "$to/first.deb"
dpkg-deb -R "$to/first.deb" "$to/second"
program v1.0.1 "$to/second/usr/bin/hostrole"
sed -i 's/^Version: .*/Version: 1.0.1-1/' "$to/second/DEBIAN/control"
(cd "$to/second" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Znone -b "$to/second" "$to/second.deb"
cd "$root/agent/e2e/clients"
go build -trimpath -ldflags '-s -w' -o "$to/clients" .
cd "$root"
go test -c -o "$to/e2e.test" ./agent/e2e
rm -rf "$to/tree" "$to/dist" "$to/second"
