"""What a fleet leaves behind, in AWS and in the bucket: status looks for it, teardown removes it.

In the bucket that is the code, the probes and the records of the board, each found by its own name:
never anything below `raw/`, no week, no manifest, nothing of another stack's. What stays of a run,
below `_runs/`, is no trace but its record.
"""

from botocore.exceptions import ClientError

from ops.ec2 import board, bundle, prove, remains
from ops.ec2.aws import code_of, explained
from ops.ec2.notify import webhook_parameter
from ops.ec2.site import Site
from tasks import figures
from tasks.storage.s3 import S3Prefix

LOOKED_FOR = (*remains.LOOKED_FOR, "code", "probe", "record of the board")


def find(site: Site) -> list[str]:
    """Everything of the fleet that is there, in words."""
    return [*remains.look_for(site.aws, site.ec2.stack), *_in_bucket(site)]


def remove(site: Site) -> list[str]:
    """Remove what is not part of the stack; returns what that was, in words."""
    removed = []
    for words, (root, keys) in _in_bucket(site).items():
        root.remove(keys)
        removed.append(words)
    client, name = site.aws.client("ssm"), webhook_parameter(site.ec2.stack)
    with explained(f"{name} in Parameter Store cannot be removed"):
        try:
            client.delete_parameter(Name=name)
            removed.append(f"webhook parameter {name}")
        except ClientError as error:
            if code_of(error) != "ParameterNotFound":
                raise
    return removed


def _in_bucket(site: Site) -> dict[str, tuple[S3Prefix, list[str]]]:
    found = {}
    if bundles := bundle.uploaded(site.code):
        words = f"{figures.count(len(bundles), 'archive')} of code in {site.code.url}"
        found[words] = site.code, bundles
    for folder in (prove.FOLDER, board.FOLDER):
        if keys := [one.key for one in site.destination.objects(folder)]:
            words = f"{figures.count(len(keys), 'object')} in {site.destination.address_of(folder)}"
            found[words] = site.destination, keys
    return found
