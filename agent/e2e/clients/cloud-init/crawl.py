"""What cloud-init makes of the metadata tree: crawl.py AWS|UNKNOWN

Where it does not know the host for EC2, it asks without a token.
"""

import pathlib
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


def keys(tree, at=""):
    """The paths of what was crawled. Documents are leaves."""
    for name, value in tree.items():
        path = at + name.replace(mac, "MAC")
        if isinstance(value, dict) and path != "iam/info":
            yield from keys(value, path + "/")
        else:
            yield path


mac = tree["mac"]
got = set(keys(tree))
text = pathlib.Path(__file__).with_name("ec2-keys.txt").read_text()
want = {line for line in text.splitlines() if not line.startswith("#")}
if got != want:
    raise SystemExit(f"an instance of EC2 has {sorted(want - got)}, which this has not, and has not {sorted(got - want)}")
print(tree["instance-id"])
