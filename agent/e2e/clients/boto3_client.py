"""The default chain of boto3, and S3 with it: boto3_client.py ENDPOINT BUCKET"""

import json
import sys

import boto3
from botocore.config import Config

endpoint, bucket = sys.argv[1:]
session = boto3.Session()
credentials = session.get_credentials()
if credentials is None or credentials.method != "iam-role":
    sys.exit(f"the credentials are not from the metadata service: {credentials and credentials.method}")
key = credentials.get_frozen_credentials().access_key

s3 = session.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))
body = b"written by boto3"
s3.put_object(Bucket=bucket, Key="boto3", Body=body)
if s3.get_object(Bucket=bucket, Key="boto3")["Body"].read() != body:
    sys.exit("the object is something else")
print(json.dumps({"client": "boto3", "version": boto3.__version__, "accessKeyId": key}))
