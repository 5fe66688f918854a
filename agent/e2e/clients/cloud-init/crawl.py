"""What cloud-init makes of the metadata tree: crawl.py AWS|UNKNOWN

Where it does not know the host for EC2, it asks without a token.
"""

import sys

from cloudinit import helpers
from cloudinit.sources import DataSourceEc2 as ec2

settings = {"datasource": {"Ec2": {"strict_id": False, "max_wait": 10, "timeout": 5, "metadata_urls": ["http://169.254.169.254:80"]}}}
source = ec2.DataSourceEc2(settings, None, helpers.Paths({"cloud_dir": "/run/crawl-cloud", "run_dir": "/run/crawl"}))
source._cloud_name = getattr(ec2.CloudNames, sys.argv[1])
found = source.crawl_metadata()
tree = found["meta-data"]
if sys.argv[1] == "AWS":  # elsewhere it does not ask for the document
    identity = found["dynamic"]["instance-identity"]["document"]
    if (tree["instance-id"], tree["placement"]["region"]) != (identity["instanceId"], identity["region"]):
        raise SystemExit("the tree and the identity document are of two instances")
print(tree["instance-id"])
