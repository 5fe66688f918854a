#!/usr/bin/env bash
# boot.sh boots a copy-on-write overlay of this machine's own root with a real
# systemd as process 1, in systemd-nspawn and in the network namespace of who
# calls it, and waits until its input ends.
#
#   boot.sh TREE PACKAGES SIZE [ARGUMENT...]
#
# What is in TREE is copied over the root, Debian packages in the folder PACKAGES
# are unpacked there first, without their scripts; "" is none. SIZE bounds what
# the system can write. Arguments are systemd-nspawn's. It says "leader PID" once
# the system runs; `nsenter -t PID -m -u -i -p -C` is in it then. It needs root,
# systemd-nspawn, cgroup v2 and overlayfs.
set -euo pipefail
tree=$1 packages=$2 size=$3
shift 3
id=hostrole-e2e-$$ work=$(mktemp -d) nspawn="" leader=""
host=$work/host group=$(awk '$3=="cgroup2"{print $2; exit}' /proc/mounts)/$id
cleanup() {
  trap - EXIT
  [ -z "$leader" ] || nsenter -t "$leader" -m -u -i -p -C -- systemctl poweroff --no-block 2>/dev/null || :
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
mount -t tmpfs -o "size=$size" tmpfs "$host"
mkdir "$host/upper" "$host/work" "$host/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$host/upper,workdir=$host/work" "$host/root"
root=$host/root
rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/fstab" # nothing that the machine enables
: >"$root/etc/machine-id"
for u in systemd-firstboot console-getty; do ln -sf /dev/null "$root/etc/systemd/system/$u.service"; done
ln -sf /dev/null "$root/etc/systemd/system/getty.target"
if [ -n "$packages" ]; then
  for p in "$packages"/*.deb; do dpkg-deb --fsys-tarfile "$p" | tar -x --keep-directory-symlink -C "$root"; done
  ldconfig -r "$root"
fi
rm -rf "$root/etc/hostrole"
cp -r --no-preserve=ownership "$tree/." "$root/"

mkdir "$group"
( echo "$BASHPID" >"$group/cgroup.procs" # without a group of its own two runs collide
  exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --boot --quiet --register=no --keep-unit --kill-signal=SIGRTMIN+3 \
    --network-namespace-path="/proc/$$/ns/net" -D "$root" --machine="$id" --console=pipe --capability=CAP_NET_ADMIN --system-call-filter=bpf \
    "$@" </dev/null >"$work/nspawn.log" 2>&1 ) &
nspawn=$!
for _ in $(seq 100); do
  leader=$(pgrep -P "$nspawn" | head -1) || :
  [ -z "$leader" ] || [ "$(cat "/proc/$leader/comm" 2>/dev/null)" != systemd ] || break
  kill -0 "$nspawn" 2>/dev/null || break
  sleep .05
done
[ -n "$leader" ] || { echo "systemd did not start"; cat "$work/nspawn.log"; exit 1; }
state=""
for _ in $(seq 150); do
  state=$(nsenter -t "$leader" -m -u -i -p -C -- systemctl is-system-running 2>/dev/null) || :
  case $state in running | degraded) break ;; esac
  sleep .1
done
case $state in
  running | degraded) echo "leader $leader" ;;
  *) echo "the system is $state"; tail -5 "$work/nspawn.log"; exit 1 ;;
esac
cat >/dev/null
