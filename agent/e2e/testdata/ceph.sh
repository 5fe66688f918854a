#!/bin/bash
# ceph.sh runs a whole Ceph cluster on loopback: a monitor, one disk in memory,
# and the gateway on port 7480 as S3 and as an STS whose sessions may be as
# short as 5 seconds. Roles: "app" trusts the user with AWS's example keys and
# may do all of S3; "denied" trusts somebody else.
#
#   unshare --mount --pid --fork --kill-child --uts --ipc --propagation private bash ceph.sh TREE SCRATCH
#
# TREE is a Debian tree with the daemons, used read-only as the lower layer of
# an overlay; SCRATCH an empty folder. It ends with the namespace.
set -eu
if [ "$1" != inside ]; then
  tree=$1 scratch=$2
  mount -t tmpfs -o size=1g tmpfs "$scratch"
  mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
  root=$scratch/root
  mount -t overlay overlay -o "lowerdir=$tree,upperdir=$scratch/upper,workdir=$scratch/work" "$root"
  mount -t proc proc "$root/proc"
  for d in run tmp dev; do mount -t tmpfs tmpfs "$root/$d"; done
  for d in null zero random urandom; do touch "$root/dev/$d"; mount --bind "/dev/$d" "$root/dev/$d"; done
  ln -s /proc/self/fd "$root/dev/fd"
  mkdir "$root/dev/shm"
  hostname ceph
  cp "$0" "$root/ceph.sh"
  exec chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 bash /ceph.sh inside
fi

fsid=11111111-2222-3333-4444-555555555555
mons='[v2:127.0.0.1:3300,v1:127.0.0.1:6789]'
mkdir -p /etc/ceph /run/ceph /var/lib/ceph/mon/ceph-a /var/lib/ceph/osd/ceph-0 /var/log/ceph
# Without cephx the gateway hangs while it connects.
cat >/etc/ceph/ceph.conf <<C
[global]
fsid = $fsid
mon host = $mons
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 1073741824
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
setuser match path = /nonexistent
rgw s3 auth use sts = true
rgw sts key = abcdefghijklmnop
rgw sts min session duration = 5
rgw frontends = beast endpoint=127.0.0.1:7480
rgw dns name = 127.0.0.1
log to file = true
C
# until TRIES COMMAND... runs it until it succeeds, five times a second.
until_ok() {
  local tries=$1; shift
  until "$@" >/dev/null 2>&1; do
    [ $((tries -= 1)) -gt 0 ] || { echo "gave up: $*" >&2; return 1; }
    sleep .2
  done
}
echo "monitor"
monmaptool --create --addv a "$mons" --fsid $fsid --clobber /run/monmap >/dev/null
ceph-authtool --create-keyring /run/mon.keyring --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool --create-keyring /etc/ceph/ceph.client.admin.keyring --gen-key -n client.admin \
  --cap mon 'allow *' --cap osd 'allow *' --cap mds 'allow *' --cap mgr 'allow *' >/dev/null
ceph-authtool /run/mon.keyring --import-keyring /etc/ceph/ceph.client.admin.keyring >/dev/null
ceph-mon --mkfs -i a --monmap /run/monmap --keyring /run/mon.keyring
ceph-mon -i a -f >/run/mon.log 2>&1 &
until_ok 60 timeout 5 ceph -s
echo "disk"
uuid=$(cat /proc/sys/kernel/random/uuid) # of both commands, or the disk never comes up
ceph osd new "$uuid" >/dev/null
ceph auth get-or-create osd.0 mon 'allow profile osd' mgr 'allow profile osd' osd 'allow *' -o /run/osd.keyring
cp /run/osd.keyring /var/lib/ceph/osd/ceph-0/keyring
ceph-osd -i 0 --mkfs --osd-uuid "$uuid" 2>/dev/null
cp /run/osd.keyring /var/lib/ceph/osd/ceph-0/keyring
ceph-osd -i 0 -f >/run/osd.log 2>&1 &
up() { timeout 5 ceph osd stat | grep -q '1 up'; }
until_ok 60 up
echo "user and roles"
ceph auth get-or-create client.rgw.a mon 'allow rw' osd 'allow rwx' -o /etc/ceph/ceph.client.rgw.a.keyring
admin() { radosgw-admin "$@" >/dev/null 2>/run/admin.log || { cat /run/admin.log; return 1; }; }
admin user create --uid=agent --display-name=agent --access-key=AKIAIOSFODNN7EXAMPLE --secret=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
trust() { # ROLE USER
  admin role create --role-name="$1" --path=/ --assume-role-policy-doc='{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Principal":{"AWS":["arn:aws:iam:::user/'"$2"'"]},"Action":["sts:AssumeRole"]}]}'
}
trust app agent
trust denied somebody
admin role-policy put --role-name=app --policy-name=all --policy-doc='{"Version":"2012-10-17","Statement":[
  {"Effect":"Allow","Action":["s3:*"],"Resource":"arn:aws:s3:::*"}]}'
echo "gateway"
exec radosgw -n client.rgw.a --keyring /etc/ceph/ceph.client.rgw.a.keyring -f >/run/rgw.log 2>&1
