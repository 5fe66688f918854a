"""boto3 in a program that runs for weeks: boto3_loop.py ENDPOINT BUCKET

It reads an object at each line that it gets, and says how each went. Before
each turn, botocore's idea of when its credentials end is put to now: it takes
what has less than a quarter of an hour to live for longer-lived, and nobody can
wait for that.
"""

import datetime
import json
import sys

import boto3
from botocore.config import Config

endpoint, bucket = sys.argv[1:]
session = boto3.Session()
print(json.dumps({"client": "boto3", "version": boto3.__version__}), flush=True)
s3 = None
for _ in sys.stdin:
    error = ""
    try:
        if s3 is None:
            s3 = session.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}))
        else:
            session.get_credentials()._expiry_time = datetime.datetime.now(datetime.timezone.utc)
        s3.get_object(Bucket=bucket, Key="seed")["Body"].read()
    except Exception as e:  # of any kind: it is what the test asks about
        error = f"{type(e).__name__}: {e}"
    print(json.dumps({"error": error}), flush=True)
