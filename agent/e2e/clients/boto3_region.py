"""Where botocore thinks that it runs."""

import json

import botocore
from botocore.utils import InstanceMetadataRegionFetcher

region = InstanceMetadataRegionFetcher().retrieve_region()
print(json.dumps({"client": "botocore", "version": botocore.__version__, "region": region}))
