"""What luigi takes for a week's file: a target at the very key, on S3 or in a folder.

luigi's own client for S3 reads an address as a URL, in which some characters of a key would be
lost. Looked at only where somebody asks luigi for it: whether a week is done its task knows.
"""

import luigi

from tasks.storage import Root
from tasks.storage.address import is_s3, object_of


def target(root: Root, key: str) -> luigi.Target:
    """The object of that key below a root."""
    address = root.address_of(key)
    return _on_s3(address) if is_s3(address) else luigi.LocalTarget(address)


def _on_s3(address: str) -> luigi.Target:
    from luigi.contrib.s3 import S3Client, S3Target  # boto3 takes a while to import

    class Client(S3Client):
        @staticmethod
        def _path_to_bucket_and_key(path: str) -> tuple[str, str]:
            return object_of(path)

    return S3Target(address, client=Client())
