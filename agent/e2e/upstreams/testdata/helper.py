"""A credential_process: what botocore finds in the files of the AWS CLI.

It does what "aws configure export-credentials --format process" does, which
version 1 of the CLI does not have.
"""
import json

import botocore.session

found = botocore.session.Session().get_credentials()
if found is None:
    raise SystemExit("botocore finds no credentials")
keys = found.get_frozen_credentials()
document = {"Version": 1, "AccessKeyId": keys.access_key, "SecretAccessKey": keys.secret_key}
if keys.token:
    document["SessionToken"] = keys.token
print(json.dumps(document))
