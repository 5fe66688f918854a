#!/bin/sh
# The AWS CLI, and S3 with it: awscli.sh ENDPOINT BUCKET
# A presigned address names the key that the chain found, and not its secret.
set -eu
endpoint=$1 bucket=$2
key=$(aws --endpoint-url "$endpoint" s3 presign "s3://$bucket/awscli" | sed -nE 's/.*(AWSAccessKeyId=|X-Amz-Credential=)([A-Z0-9]+).*/\2/p')
[ -n "$key" ] || { echo "no access key in a presigned address" >&2; exit 1; }
echo "written by awscli" | aws --endpoint-url "$endpoint" s3 cp - "s3://$bucket/awscli" >&2
[ "$(aws --endpoint-url "$endpoint" s3 cp "s3://$bucket/awscli" -)" = "written by awscli" ] || { echo "the object is something else" >&2; exit 1; }
version=$(aws --version 2>&1)
version=${version#aws-cli/}
printf '{"client":"awscli","version":"%s","accessKeyId":"%s"}\n' "${version%% *}" "$key"
