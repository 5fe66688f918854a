#!/bin/bash
# debian.sh runs one client of a Debian tree and, where it can, puts something
# into S3 and reads it back:
#
#   unshare --mount --pid --fork --kill-child --uts --ipc --propagation private bash debian.sh TREE SCRATCH CLIENT ENDPOINT BUCKET
#
# TREE is used read-only as the lower layer of an overlay; SCRATCH is an empty
# folder. /dev, /run, /sys and the hostname are its own. It prints one line of
# JSON.
set -eu
if [ "$1" != inside ]; then
  tree=$1 scratch=$2 here=$(dirname "$0"); shift 2
  mount -t tmpfs -o size=1g tmpfs "$scratch"
  mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
  root=$scratch/root
  mount -t overlay overlay -o "lowerdir=$tree,upperdir=$scratch/upper,workdir=$scratch/work" "$root"
  mount -t proc proc "$root/proc"
  for d in run tmp dev sys; do mount -t tmpfs tmpfs "$root/$d"; done
  for d in null zero random urandom fuse; do [ ! -e "/dev/$d" ] || { touch "$root/dev/$d"; mount --bind "/dev/$d" "$root/dev/$d"; }; done
  ln -s /proc/self/fd "$root/dev/fd"
  mkdir "$root/dev/shm"
  hostname client
  mkdir "$root/clients"
  cp -r "$here"/*.sh "$here"/*.py "$here"/*.rb "$here/cloud-init" "$root/clients/"
  exec chroot "$root" env -i HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb \
    AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 bash /clients/debian.sh inside "$@"
fi
[ "$(hostname)" = client ] || { echo "this is no namespace of its own" >&2; exit 1; }
shift
client=$1 endpoint=$2 bucket=$3
body="written by $client"
say() { printf '{"client":"%s","version":"%s","accessKeyId":"%s"}\n' "$client" "$(dpkg-query -W -f '${Version}' "$1")" "${2-}"; }
same() { [ "$1" = "$body" ] || { echo "the object is something else: $1" >&2; exit 1; }; }
# The real standard output is for the one line; all else is a remark.
exec 3>&1 >&2
cd /tmp
printf '%s' "$body" >body
case $client in
  awscli)
    aws --endpoint-url "$endpoint" s3 cp body "s3://$bucket/awscli-2"
    same "$(aws --endpoint-url "$endpoint" s3 cp "s3://$bucket/awscli-2" -)"
    say awscli >&3 ;;
  boto3)
    python3 /clients/boto3_client.py "$endpoint" "$bucket" >&3 ;;
  ruby | ruby-region)
    [ "$client" = ruby ] || unset AWS_REGION AWS_DEFAULT_REGION
    ruby -e '
      require "aws-sdk-s3"
      endpoint, bucket, body = ARGV
      s3 = Aws::S3::Client.new(endpoint: endpoint, force_path_style: true)
      s3.put_object(bucket: bucket, key: "ruby", body: body)
      print s3.get_object(bucket: bucket, key: "ruby").body.read' "$endpoint" "$bucket" "$body" >got
    same "$(cat got)"
    say ruby-aws-sdk-core >&3 ;;
  boto3-loop)
    exec python3 /clients/boto3_loop.py "$endpoint" "$bucket" >&3 ;;
  ruby-loop)
    exec ruby /clients/loop.rb "$endpoint" "$bucket" >&3 ;;
  rclone)
    export RCLONE_CONFIG=/dev/null RCLONE_S3_PROVIDER=Minio RCLONE_S3_ENV_AUTH=true RCLONE_S3_ENDPOINT=$endpoint
    rclone rcat ":s3:$bucket/rclone" <body
    same "$(rclone cat ":s3:$bucket/rclone")"
    say rclone >&3 ;;
  restic)
    export RESTIC_PASSWORD=x RESTIC_REPOSITORY=s3:$endpoint/$bucket/restic
    restic init && restic --no-cache backup body
    same "$(restic --no-cache dump latest /body)"
    say restic >&3 ;;
  s3cmd)
    host=${endpoint#http://}
    printf '[default]\nhost_base = %s\nhost_bucket = %s\nuse_https = False\n' "$host" "$host" >s3cfg
    s3cmd -c s3cfg put body "s3://$bucket/s3cmd"
    same "$(s3cmd -c s3cfg get "s3://$bucket/s3cmd" -)"
    say s3cmd >&3 ;;
  duplicity)
    mkdir from && cp body from/
    s3() { duplicity --no-encryption --no-print-statistics --s3-endpoint-url "$endpoint" "$@"; }
    s3 full from "boto3+s3://$bucket/duplicity"
    s3 restore "boto3+s3://$bucket/duplicity" to
    same "$(cat to/body)"
    say duplicity >&3 ;;
  s3fs | s3fs-auto)
    role=app
    [ "$client" = s3fs ] || role=auto
    mkdir mnt
    s3fs "$bucket" mnt -f -o "iam_role=$role,url=$endpoint,use_path_request_style" &
    fs=$!
    for _ in $(seq 100); do ! mountpoint -q mnt || break; kill -0 $fs; sleep .1; done
    cp body mnt/s3fs
    same "$(cat mnt/s3fs)"
    umount mnt
    wait $fs
    say s3fs >&3 ;;
  s3fs-loop) # an object read at each line
    mkdir mnt
    say s3fs >&3
    while read -r _; do
      if ! mountpoint -q mnt; then
        s3fs "$bucket" mnt -f -o "iam_role=app,url=$endpoint,use_path_request_style,max_stat_cache_size=0,retries=1" &
        for _ in $(seq 100); do ! mountpoint -q mnt || break; sleep .1; done
      fi
      error=$(cat mnt/seed 2>&1 >read | tail -1 | tr -d '"')
      [ -n "$error" ] || [ "$(cat read)" = seed ] || error="read $(cat read)"
      printf '{"error":"%s"}\n' "$error" >&3
    done
    umount mnt ;;
  awscli-region)
    unset AWS_REGION AWS_DEFAULT_REGION
    region=$(aws configure list | awk '$1 == "region" {print $2}')
    printf '{"client":"awscli","version":"%s","region":"%s"}\n' "$(dpkg-query -W -f '${Version}' awscli)" "$region" >&3 ;;
  prometheus)
    cat >p.yml <<C
scrape_configs:
  - job_name: ec2
    ec2_sd_configs: [{region: us-east-1, endpoint: "$endpoint", refresh_interval: 1h}]
C
    # MinIO is no EC2 and says so; who asked is seen all the same.
    timeout 20 prometheus --config.file p.yml --storage.tsdb.path data --web.listen-address 127.0.0.1:0 2>p.log &
    for _ in $(seq 150); do ! grep -q 'Unable to refresh target groups' p.log || break; sleep .1; done
    kill %1
    wait || :
    grep 'Unable to refresh target groups' p.log
    say prometheus >&3 ;;
  prometheus-loop) # a refresh at each line: it stands still in between
    cat >p.yml <<C
scrape_configs:
  - job_name: ec2
    ec2_sd_configs: [{region: us-east-1, endpoint: "$endpoint", refresh_interval: 8s}]
C
    say prometheus >&3
    p= told='Unable to refresh target groups'
    while read -r _; do
      seen=$(grep -c "$told" p.log 2>/dev/null || :)
      if [ -n "$p" ]; then kill -CONT "$p"; else
        prometheus --config.file p.yml --storage.tsdb.path data --web.listen-address 127.0.0.1:0 2>p.log & p=$!
      fi
      for _ in $(seq 1000); do [ "$(grep -c "$told" p.log)" = "${seen:-0}" ] || break; sleep .02; done
      kill -STOP "$p"
      grep "$told" p.log | tail -1 | cut -c1-300 >&2
      # MinIO is no EC2 and says so; that is as far as a good key gets.
      error=$(grep "$told" p.log | tail -1 | grep -oE 'NoCredentialProviders|EC2RoleRequestError|ExpiredToken[A-Za-z]*|InvalidAccessKeyId' | head -1 || :)
      printf '{"error":"%s"}\n' "$error" >&3
    done
    kill -KILL "$p" ;;
  pgbackrest)
    # Its S3 is HTTPS only, so that it ends after it has fetched.
    pgbackrest --repo1-type=s3 --repo1-s3-key-type=auto --repo1-s3-bucket="$bucket" --repo1-s3-endpoint=127.0.0.1 --repo1-storage-port=1 \
      --repo1-s3-region=us-east-1 --repo1-path=/ --io-timeout=1 --log-level-console=info repo-ls 2>&1 | tee log || :
    grep -F "$bucket.127.0.0.1" log # it has a key, and looks for its S3
    say pgbackrest >&3 ;;
  ec2-metadata)
    ec2-metadata --instance-id | grep -E '^instance-id: i-[0-9a-f]{17}$'
    ec2-metadata --availability-zone | grep '^placement: us-east-1'
    # All that it knows: no line says that something is not there but of what no
    # host has.
    ec2-metadata >all 2>errors
    cat all errors
    [ ! -s errors ]
    if grep -iE 'error|<|fail|unauthorized' all; then exit 1; fi
    [ "$(grep 'not available' all | cut -d: -f1 | sort | xargs)" = "ancestor-ami-ids kernel-id not available product-codes ramdisk-id user-data" ]
    say amazon-ec2-utils >&3 ;;
  ec2-net-utils)
    # What udev starts for an interface, as it is. networkd and the journal are
    # not here, and it only tells them.
    nic=uplink
    mkdir -p "/sys/class/net/$nic"
    ip -o link show "$nic" | sed -nE 's,.*link/ether ([0-9a-f:]+).*,\1,p' >"/sys/class/net/$nic/address"
    for told in /lib/systemd/systemd-networkd-wait-online /usr/bin/networkctl /usr/bin/logger; do printf '#!/bin/sh\n' >"$told"; done
    setup-policy-routes "$nic" start
    grep -x 'Address=10.0.0.2/32' "/run/systemd/network/70-$nic.network.d/ec2net_alias.conf"
    ip link show "$nic" | grep 'altname device-number-0'
    say amazon-ec2-net-utils >&3 ;;
  ec2metadata)
    ec2metadata --instance-id | grep -E '^i-[0-9a-f]{17}$'
    ec2metadata --availability-zone | grep us-east-1
    say cloud-utils >&3 ;;
  cloud-init)
    config=/etc/cloud/cloud.cfg.d/99-safe.cfg
    cp /clients/cloud-init/safe.cfg "$config"
    for list in cloud_init_modules cloud_config_modules cloud_final_modules; do grep -qx "$list: \[\]" "$config"; done
    mkdir -p /sys/class/dmi/id /sys/class/net # by which it knows EC2
    echo ec2a0000-0000-0000-0000-000000000000 | tee /sys/class/dmi/id/product_uuid >/sys/class/dmi/id/product_serial
    id=$(python3 /clients/cloud-init/crawl.py AWS)
    cloud-init init --local
    cloud-init init
    [ "$(cloud-init query instance_id)" = "$id" ]
    [ "$(cloud-init query region)" = us-east-1 ]
    [ "$(cloud-id)" = aws ]
    for fact in cloud_name=aws platform=ec2 'subplatform=metadata (http://169.254.169.254:80)' availability_zone=us-east-1a; do
      [ "$(cloud-init query "${fact%%=*}")" = "${fact#*=}" ]
    done
    [ "$(hostname)" = client ]
    say cloud-init >&3 ;;
  cloud-init-elsewhere)
    python3 /clients/cloud-init/crawl.py UNKNOWN
    say cloud-init >&3 ;;
  *) echo "there is no client $client" >&2; exit 2 ;;
esac
