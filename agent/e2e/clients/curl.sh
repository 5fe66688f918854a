#!/bin/sh
# What a script does by hand, as AWS documents it: curl.sh ENDPOINT BUCKET
set -eu
endpoint=$1 bucket=$2 latest=http://169.254.169.254/latest
get() { curl -sSf -m 5 -H "X-aws-ec2-metadata-token: $token" "$latest/$1"; }
token=$(curl -sSf -m 5 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" "$latest/api/token")
role=$(get meta-data/iam/security-credentials/)
document=$(get "meta-data/iam/security-credentials/$role")
field() { printf '%s' "$document" | sed -nE "s/.*\"$1\" *: *\"([^\"]*)\".*/\1/p"; }
key=$(field AccessKeyId)
s3() {
  curl -sSf -m 5 --aws-sigv4 aws:amz:us-east-1:s3 --user "$key:$(field SecretAccessKey)" \
    -H "x-amz-security-token: $(field Token)" "$@"
}
printf 'written by curl' >"$HOME/body"
s3 -T "$HOME/body" -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" "$endpoint/$bucket/curl"
[ "$(s3 "$endpoint/$bucket/curl")" = "written by curl" ] || { echo "the object is something else" >&2; exit 1; }
version=$(curl --version | sed -nE '1s/^curl ([0-9.]+).*/\1/p')
printf '{"client":"curl","version":"%s","accessKeyId":"%s"}\n' "$version" "$key"
