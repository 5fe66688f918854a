#!/usr/bin/env bash
# machine.sh boots a copy-on-write overlay of this machine's own root with a real
# systemd as process 1, in systemd-nspawn and in the network namespace of who
# calls it, with the rights that container engines need in it, and waits until
# its input ends.
#
#   machine.sh BINARY UNITS FILES
#
# BINARY becomes /usr/bin/hostrole, what is in UNITS goes to /etc/systemd/system,
# what is in FILES to /opt/e2e. It says "leader PID" once the system runs;
# `nsenter -t PID -m -u -i -p -C` is in it then. It needs root, systemd-nspawn,
# cgroup v2 and overlayfs, and writes to no file of the machine.
set -euo pipefail
binary=$1 units=$2 files=$3
id=hostrole-e2e-$$ work=$(mktemp -d) nspawn="" leader=""
host=$work/host group=$(awk '$3=="cgroup2"{print $2; exit}' /proc/mounts)/$id
cleanup() {
  trap - EXIT
  [ -z "$leader" ] || nsenter -t "$leader" -m -u -i -p -C -- systemctl poweroff --no-block 2>/dev/null || :
  if [ -n "$nspawn" ]; then
    for _ in $(seq 150); do kill -0 "$nspawn" 2>/dev/null || break; sleep .1; done
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
mount -t tmpfs -o size=2g tmpfs "$host"
mkdir "$host/upper" "$host/work" "$host/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$host/upper,workdir=$host/work" "$host/root"
root=$host/root
rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/fstab" # nothing that the machine enables
: >"$root/etc/machine-id"
for u in systemd-firstboot console-getty; do ln -sf /dev/null "$root/etc/systemd/system/$u.service"; done
ln -sf /dev/null "$root/etc/systemd/system/getty.target"
install -D -m 755 "$binary" "$root/usr/bin/hostrole"
find "$units" -maxdepth 1 -name 'hostrole*' -type f -exec install -m 644 -t "$root/etc/systemd/system" {} +
mkdir -p "$root/opt/e2e"
cp -r "$files/." "$root/opt/e2e/"
chmod -R a+rX "$root/opt/e2e"

mkdir "$group"
devices=()
for d in /dev/net/tun /dev/fuse; do [ ! -e "$d" ] || devices+=(--bind="$d"); done
( echo "$BASHPID" >"$group/cgroup.procs" # without a group of its own two runs collide
  # Containers within: they write to /proc/sys, make devices, and have keyrings.
  exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes \
    systemd-nspawn --boot --quiet --register=no --keep-unit --kill-signal=SIGRTMIN+3 \
    --network-namespace-path="/proc/$$/ns/net" -D "$root" --machine="$id" --console=pipe --capability=all \
    --system-call-filter="bpf add_key keyctl @mount" "${devices[@]}" \
    </dev/null >"$work/nspawn.log" 2>&1 ) &
nspawn=$!
for _ in $(seq 100); do
  leader=$(pgrep -P "$nspawn" | head -1) || :
  [ -z "$leader" ] || [ "$(cat "/proc/$leader/comm" 2>/dev/null)" != systemd ] || break
  kill -0 "$nspawn" 2>/dev/null || break
  sleep .05
done
[ -n "$leader" ] || { echo "systemd did not start"; cat "$work/nspawn.log"; exit 1; }
state=""
for _ in $(seq 300); do
  state=$(nsenter -t "$leader" -m -u -i -p -C -- systemctl is-system-running 2>/dev/null) || :
  case $state in running | degraded) break ;; esac
  sleep .1
done
case $state in
  running | degraded) echo "leader $leader" ;;
  *) echo "the system is $state"; tail -5 "$work/nspawn.log"; exit 1 ;;
esac
cat >/dev/null
