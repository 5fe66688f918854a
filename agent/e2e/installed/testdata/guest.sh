#!/bin/bash
# guest.sh runs in the virtual machine, as root, and says on its standard output
# what it sees, a line each: KEY VALUE. The package and the programs are in /opt.
set -u
url=http://169.254.169.254/latest
say() { printf '%s %s\n' "$1" "${*:2}"; }
now() { echo $(($(date +%s%N) / 1000000)); }
token() { curl -s -f -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 600' $url/api/token; }
key() { curl -s -m 5 -H "X-aws-ec2-metadata-token: $T" $url/meta-data/iam/security-credentials/app | sed -n 's/.*"AccessKeyId" : "\(.*\)".*/\1/p'; }
until_serving() { local i; for i in $(seq 500); do T=$(token) && [ -n "$(key)" ] && return; sleep .02; done; say timeout "$1"; }

say kernel "$(uname -r)"
say virtual "$(systemd-detect-virt)"
depmod -a 2>/dev/null
say controllers "$(cat /sys/fs/cgroup/cgroup.controllers)"
ip -o link >/run/links; ip -o address >/run/addresses; ip route show table all >/run/routes

dpkg -i /opt/hostrole.deb >/run/dpkg 2>&1 || say dpkg "$(tail -n 3 /run/dpkg | tr '\n' ' ')"
install -m 644 /opt/hostrole.toml /opt/credential.json /etc/hostrole/
hostrole check >/run/check 2>&1 || say check "$(tr '\n' ' ' </run/check)"
say modules "$(lsmod | grep -cE '^(tcp_diag|dummy) ')"
# Who calls is known from a module: without it nobody is served.
echo 'install tcp_diag /bin/false' >/etc/modprobe.d/no-diag.conf
systemctl start hostrole.service 2>/dev/null
say without "$(systemctl show -P ActiveState hostrole.service) $(journalctl -u hostrole.service -o cat --no-pager | grep -m 1 -E '^hostrole: |"ERROR"')"
rm /etc/modprobe.d/no-diag.conf
until_serving start
say served "$(key)"
say loaded "$(lsmod | grep -cE '^(tcp_diag|dummy) ')"
say link "$(ip -o address show dev hostrole0 | awk '{ print $4 }' | tr '\n' ' ')"
say type "$(ip -d -o link show dev hostrole0 | grep -o dummy | head -n 1)"
say memory "$(systemctl show -P MemoryMax hostrole.service) $(cat /sys/fs/cgroup/system.slice/hostrole.service/memory.max)"
say tasks "$(cat /sys/fs/cgroup/system.slice/hostrole.service/pids.max)"
say peak "$(cat /sys/fs/cgroup/system.slice/hostrole.service/memory.peak 2>/dev/null)"
say started "$(($(systemctl show -P ActiveEnterTimestampMonotonic hostrole.service) - $(systemctl show -P InactiveExitTimestampMonotonic hostrole.service)))"
say sdk "$(systemd-run --quiet --wait --pipe --collect -p User=daemon -E AWS_REGION=eu-west-1 /opt/clients creds v2)"
before=$(key)
systemctl restart hostrole.service
say restart "$([ "$(key)" = "$before" ] && echo same)"
began=$(now)
kill -9 "$(systemctl show -P MainPID hostrole.service)"
say kill "$([ "$(key)" = "$before" ] && echo same)" $(($(now) - began))
for i in $(seq 200); do [ "$(systemctl show -P ActiveState hostrole.service)" = active ] && break; sleep .05; done
ip link del hostrole0
began=$(now)
for i in $(seq 200); do ip -o address show dev hostrole0 2>/dev/null | grep -q 169.254.169.254 && break; sleep .01; done
say remade $(($(now) - began))
say again "$(key)"
systemctl stop hostrole.service
for i in $(seq 60); do ip -o address | grep -q 169.254.169.254 || break; sleep .5; done
dpkg -P hostrole >/run/purge 2>&1 || say purge "$(tail -n 3 /run/purge | tr '\n' ' ')"
for i in $(seq 40); do ip link show hostrole0 >/dev/null 2>&1 || break; sleep .5; done
say left "$(ip -o link | diff /run/links - | tr '\n' ' ')$(ip -o address | diff /run/addresses - | tr '\n' ' ')$(ip route show table all | diff /run/routes - | tr '\n' ' ')"
# What this kernel's bridges can do and others' cannot: VLANs, links behind a module.
/opt/netns -test.v -test.count=1 >/run/netns 2>&1
say bridges "$?" "$(grep -cE '^--- PASS' /run/netns)" "$(grep -E '^ *--- (FAIL|SKIP)|SKIPPED' /run/netns | tr '\n' ' ')"
say failed "$(systemctl --failed --no-legend --plain | tr '\n' ' ')"
say end
