#!/usr/bin/env bash
# lifecycle.sh boots a copy-on-write overlay of this machine's own root with a
# real systemd as process 1, installs a package, upgrades, removes and purges it,
# and says what is not as it should be. It needs root, systemd-nspawn, cgroup v2
# and overlayfs, and writes to no file of the machine.
#
#   lifecycle.sh OLD.deb NEW.deb FILES     FILES: hostrole.toml second.toml credential.json
set -euo pipefail
old=$1 new=$2 files=$3
id=hostrole-deb-$$ work=$(mktemp -d) nspawn="" leader="" bad=0
host=$work/host group=$(awk '$3=="cgroup2"{print $2; exit}' /proc/mounts)/$id
cleanup() {
  trap - EXIT
  [ -z "$leader" ] || nsenter -t "$leader" -m -u -i -n -p -C -- systemctl poweroff --no-block 2>/dev/null || :
  if [ -n "$nspawn" ]; then
    for _ in $(seq 100); do kill -0 "$nspawn" 2>/dev/null || break; sleep .1; done
    ! kill -0 "$nspawn" 2>/dev/null || kill -9 ${leader:+"$leader"} "$nspawn" 2>/dev/null || :
    wait "$nspawn" 2>/dev/null || :
  fi
  umount "$host/root" 2>/dev/null || :
  umount "$host" 2>/dev/null || umount -l "$host" 2>/dev/null || :
  for d in "$group" "/sys/fs/cgroup/systemd/$id"; do [ ! -d "$d" ] || find "$d" -depth -type d -exec rmdir {} \; 2>/dev/null || :; done
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir -p "$host"
mount -t tmpfs -o size=1g tmpfs "$host"
mkdir "$host/upper" "$host/work" "$host/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$host/upper,workdir=$host/work" "$host/root"
root=$host/root
rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/fstab" "$root/usr/sbin/policy-rc.d" # nothing that the machine enables
rm -f "$root/var/lib/dpkg/info/man-db.triggers"                                          # an index of all pages takes seconds
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
: >"$root/etc/machine-id"
for u in systemd-firstboot console-getty; do ln -sf /dev/null "$root/etc/systemd/system/$u.service"; done
ln -sf /dev/null "$root/etc/systemd/system/getty.target"
dpkg-deb --fsys-tarfile "$new" | tar -t | grep hostrole | while read -r path; do rm -rf "${root:?}/${path#./}"; done # one that this machine has
sed -i '/^hostrole:/d' "$root"/etc/passwd "$root"/etc/group "$root"/etc/shadow "$root"/etc/gshadow
mkdir -p "$root/opt/packages"
cp "$old" "$root/opt/packages/old.deb"
cp "$new" "$root/opt/packages/new.deb"
install -m 644 "$files"/* "$root/opt/packages/"

mkdir "$group"
( echo "$BASHPID" >"$group/cgroup.procs" # without a group of its own two runs collide
  exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --boot --quiet --register=no --keep-unit --kill-signal=SIGRTMIN+3 \
    --private-network -D "$root" --machine="$id" --console=pipe --capability=CAP_NET_ADMIN --system-call-filter=bpf \
    </dev/null >"$work/nspawn.log" 2>&1 ) &
nspawn=$!
for _ in $(seq 200); do
  leader=$(pgrep -P "$nspawn" | head -1) || :
  [ -z "$leader" ] || [ "$(cat "/proc/$leader/comm" 2>/dev/null)" != systemd ] || break
  kill -0 "$nspawn" 2>/dev/null || break
  sleep .05
done
[ -n "$leader" ] || { echo "systemd did not start"; cat "$work/nspawn.log"; exit 1; }
x() { nsenter -t "$leader" -m -u -i -n -p -C -- "$@"; }
state=""
for _ in $(seq 300); do
  state=$(x systemctl is-system-running 2>/dev/null) || :
  case $state in running | degraded) break ;; esac
  sleep .1
done
case $state in running | degraded) ;; *) echo "the system is $state"; tail -5 "$work/nspawn.log"; exit 1 ;; esac

say() { printf '== %s\n' "$*"; }
wrong() { printf 'WRONG: %s\n' "$*"; bad=1; }
# want TEXT COMMAND... wants the command to print that.
want() {
  local text=$1 got; shift
  got=$(x "$@" 2>/dev/null) || :
  [ "$got" = "$text" ] || wrong "$*: \"$got\", not \"$text\""
}
must() { x "$@" >"$work/out" 2>&1 || { wrong "$*: exit status $?"; cat "$work/out"; }; }
# What the host has: users, groups, addresses, units, and the files that differ
# from the machine's own.
snapshot() {
  x sh -c 'cut -d: -f1 /etc/passwd | sort; cut -d: -f1 /etc/group | sort; ip -o address; ip route show table all
    systemctl list-units --all --plain --no-legend "hostrole*"
    find /run \( -path /run/systemd -o -path /run/udev -o -path /run/log -o -path /run/dbus \) -prune -o -print | sort'
  (cd "$host/upper" && find . \( -path ./var/lib/dpkg -o -path ./var/log -o -path ./var/cache -o -path ./tmp -o -path './etc/passwd*' \
    -o -path './etc/group*' -o -path './etc/*shadow*' -o -path './etc/sub?id*' -o -path ./var/lib/systemd \) -prune -o ! -type d -print | sort)
}
serving() { x curl -s -o /dev/null -w '%{http_code}' -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token; }

! x dpkg -s hostrole >/dev/null 2>&1 || must dpkg -P hostrole
snapshot >"$work/before"
say install
must dpkg -i /opt/packages/old.deb
want disabled systemctl is-enabled hostrole.service
want disabled systemctl is-enabled hostrole.socket
want inactive systemctl is-active hostrole.service
must id hostrole
must systemctl preset hostrole.service hostrole.socket
want disabled systemctl is-enabled hostrole.service

say run
must cp /opt/packages/hostrole.toml /opt/packages/second.toml /opt/packages/credential.json /etc/hostrole/
must hostrole check
# As "hostrole init" does for a secret.
must sh -c 'mkdir /etc/systemd/system/hostrole.service.d
  printf "[Service]\nLoadCredential=aws-secret:/etc/hostrole/credential.json\n" >/etc/systemd/system/hostrole.service.d/credential-aws-secret.conf
  systemctl daemon-reload'
must systemctl enable --now hostrole.service hostrole@second.service
must hostrole wait --timeout 20s
[ "$(serving)" = 200 ] || wrong "it does not serve"
want 'hostrole-second' stat -c %U /var/lib/private/hostrole@second
want 'hostrole' stat -c %G /run/hostrole@second
must hostrole status --socket /run/hostrole@second/admin.sock
must systemctl reload hostrole.service hostrole@second.service

say upgrade
was=$(x systemctl show -P MainPID hostrole.service hostrole@second.service | xargs)
must dpkg -i --force-confdef --force-confold /opt/packages/new.deb
now=$(x systemctl show -P MainPID hostrole.service hostrole@second.service | xargs)
[ "${was% *}" != "${now% *}" ] && [ "${was#* }" != "${now#* }" ] || wrong "the old program runs on: $was, $now"
want 'active active' sh -c 'systemctl is-active hostrole.service hostrole@second.service | xargs'
[ "$(serving)" = 200 ] || wrong "it does not serve after the upgrade"
x cmp -s /opt/packages/hostrole.toml /etc/hostrole/hostrole.toml || wrong "the upgrade has changed the configuration"
must systemctl stop hostrole@second.service
must dpkg -i --force-confdef --force-confold /opt/packages/new.deb
want inactive systemctl is-active hostrole@second.service

say remove
must systemctl start hostrole@second.service
must dpkg -r hostrole
want 'inactive inactive' sh -c 'systemctl is-active hostrole.service hostrole@second.service | xargs'
x cmp -s /opt/packages/hostrole.toml /etc/hostrole/hostrole.toml || wrong "the removal has changed the configuration"
x test -d /var/lib/private/hostrole || wrong "the removal has taken the state"
# A stop may be a restart: the kernel takes the addresses 10 s later.
for _ in $(seq 60); do
  [ -n "$(x ip -o address show to 169.254.169.252/30)" ] || break
  sleep 0.2
done
[ -z "$(x ip -o address show to 169.254.169.252/30)" ] || wrong "the address is still there"

say purge
must dpkg -P hostrole
x systemctl reset-failed 2>/dev/null || :
snapshot >"$work/after"
diff "$work/before" "$work/after" || wrong "the purge has left something"
exit $bad
