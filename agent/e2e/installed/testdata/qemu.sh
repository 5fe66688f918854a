#!/usr/bin/env bash
# qemu.sh boots Debian's kernel in qemu with a Debian tree as its first and only
# file system, runs a script in it, and says what that wrote. There is no network
# device, no disk, and no help of a processor.
#
#   qemu.sh FOLDER FILES   FOLDER: what setup.sh made; FILES go to /opt, check.sh is run
set -euo pipefail
from=$1 files=$2
work=$(mktemp -d) qemu=""
cleanup() { [ -z "$qemu" ] || kill "$qemu" 2>/dev/null || :; rm -rf "$work"; }
trap cleanup EXIT
trap 'exit 130' INT TERM
kernel=$(basename "$from"/kernel/boot/vmlinuz-*) kernel=${kernel#vmlinuz-}
root=$work/root
mkdir "$root"
tar -C "$from/tree" --one-file-system --exclude=./usr/share/{doc,man,locale,info,i18n,zoneinfo} --exclude=./proc/* --exclude=./sys/* -cf - . | tar -C "$root" -xf -
mkdir -p "$root/opt" "$root/proc" "$root/sys"
cp "$files"/* "$root/opt/"
for m in drivers/net/{dummy,veth} net/ipv4/{inet_diag,tcp_diag} net/{bridge/bridge,802/stp,llc/llc} lib/libcrc32c net/ipv4/netfilter/nf_defrag_ipv4 \
  net/ipv6/netfilter/nf_defrag_ipv6 net/netfilter/{nfnetlink,nf_tables,nf_conntrack,nf_nat,nft_chain_nat,nft_nat}; do # as Debian has them: the kernel loads them itself
  [ -f "$from/kernel/lib/modules/$kernel/kernel/$m.ko" ] || continue # built in
  install -D -m 644 "$from/kernel/lib/modules/$kernel/kernel/$m.ko" "$root/lib/modules/$kernel/kernel/$m.ko"
done
: >"$root/etc/machine-id"
rm -rf "$root/etc/fstab" "$root"/etc/systemd/system/*.wants
# What the tree enables is not wanted, and a getty hangs up the console.
for u in systemd-firstboot.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer systemd-networkd.service \
  systemd-networkd.socket systemd-timesyncd.service getty.target serial-getty@ttyS0.service getty@tty1.service systemd-update-utmp.service systemd-random-seed.service; do
  ln -sf /dev/null "$root/etc/systemd/system/$u"
done
cat >"$root/etc/systemd/system/check.service" <<'U'
[Unit]
After=basic.target dbus.service
Wants=dbus.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo CHECK-BEGIN; bash /opt/check.sh 2>&1; echo CHECK-END'
ExecStopPost=/bin/systemctl poweroff --no-block
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
U
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../check.service "$root/etc/systemd/system/multi-user.target.wants/"
ln -sf /lib/systemd/systemd "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$work/initrd"
rm -rf "$root"
began=$(date +%s%N)
timeout -k 2 240 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1536 -nic none -nographic -no-reboot \
  -kernel "$from/kernel/boot/vmlinuz-$kernel" -initrd "$work/initrd" -append "console=ttyS0 quiet systemd.show_status=0 rdinit=/init panic=-1" \
  </dev/null >"$work/console" 2>&1 &
qemu=$!
wait "$qemu" || :
qemu=""
echo "guest $((($(date +%s%N) - began) / 1000000))"
tr -d '\r' <"$work/console" | sed -n '/CHECK-BEGIN/,/CHECK-END/{/^CHECK-/d;p}'
grep -q CHECK-END "$work/console" || { tail -n 30 "$work/console"; exit 1; }
