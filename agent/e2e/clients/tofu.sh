#!/bin/sh
# OpenTofu with its state in S3: tofu.sh TOFU ENDPOINT BUCKET
# It is told no key, and of AWS no more than that this is none.
set -eu
tofu=$1 endpoint=$2 bucket=$3
cd "$HOME"
cat >main.tf <<T
terraform {
  backend "s3" {
    bucket                      = "$bucket"
    key                         = "tofu"
    region                      = "us-east-1"
    endpoints                   = { s3 = "$endpoint" }
    use_path_style              = true
    use_lockfile                = true
    skip_credentials_validation = true
    skip_requesting_account_id  = true
    skip_region_validation      = true
    skip_s3_checksum            = true
  }
}
output "said" { value = "written by tofu" }
T
export CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1 TF_CLI_CONFIG_FILE=/dev/null
"$tofu" init -input=false -no-color >&2
"$tofu" apply -auto-approve -input=false -no-color >&2
rm -r .terraform
"$tofu" init -input=false -no-color >&2
[ "$("$tofu" output -raw said)" = "written by tofu" ] || { echo "the state is something else" >&2; exit 1; }
version=$("$tofu" version | sed -nE '1s/^OpenTofu v([0-9.]+).*/\1/p')
printf '{"client":"opentofu","version":"%s","accessKeyId":""}\n' "$version"
