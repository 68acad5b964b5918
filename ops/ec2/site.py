"""What a command with ON=ec2 works with: the settings it goes by, and handles to what they name.

Made once for each command, from luigi.cfg and the environment. Refuses what could not work on EC2
before anything is asked of AWS. Changes nothing.
"""

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

from ops.ec2 import bundle
from ops.ec2.aws import Aws
from ops.ec2.board import Board
from ops.ec2.fleet import Fleet
from ops.ec2.stack import Stack
from tasks.problem import Problem
from tasks.settings import Ec2Settings, Settings, load, load_ec2, variable_of
from tasks.storage.address import place_of
from tasks.storage.s3 import S3Prefix

TEMPLATE = Path(__file__).parent.parent / "stack.yaml"
SCRIPTS = Path(__file__).parent / "scripts"

_PLACE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.=-]+)*/?")
_OF_THE_INSTANCE = {"BUSTIMES_SOURCE", "BUSTIMES_DESTINATION", "BUSTIMES_SPOOL"}


@dataclass(frozen=True)
class Site:
    """A fleet and its archive, as the settings name them."""

    settings: Settings
    ec2: Ec2Settings
    aws: Aws
    stack: Stack
    fleet: Fleet
    board: Board
    destination: S3Prefix
    code: S3Prefix
    """Where bundles of code lie, in the destination's bucket."""

    @classmethod
    def open(cls) -> "Site":
        """Raises `Problem` where the settings name no place for a fleet."""
        settings, ec2 = load(), load_ec2()
        for name in ("source", "destination"):
            _check(name, getattr(settings, name))
        os.environ["AWS_REGION"] = ec2.region  # for tasks.storage, which asks boto3
        aws, destination = Aws(ec2.region), S3Prefix(settings.destination.rstrip("/"))
        return cls(
            settings=settings,
            ec2=ec2,
            aws=aws,
            stack=Stack(aws, ec2.stack),
            fleet=Fleet(aws, ec2.stack),
            board=Board(destination),
            destination=destination,
            code=bundle.root_of(settings.destination, ec2),
        )

    @property
    def source_bucket(self) -> str:
        return S3Prefix(self.settings.source).bucket


def settings_of_run() -> dict[str, str]:
    """Settings of `[bustimes]` that were given for this one run; no other variable is sent."""
    names = {variable_of("bustimes", one.name) for one in fields(Settings)} - _OF_THE_INSTANCE
    return {name: os.environ[name] for name in sorted(names) if os.environ.get(name, "").strip()}


def _check(name: str, url: str) -> None:
    if isinstance(place_of(url), Path):
        raise Problem(
            f"{name.upper()} is {url}, which instances of EC2 cannot see: give s3://bucket/prefix, "
            "or leave ON=ec2 away."
        )
    if not _PLACE.fullmatch(url):
        raise Problem(
            f"{name.upper()} is {url!r}, which is no bucket and prefix that can be passed on: give "
            "s3://bucket/prefix, the prefix of letters, digits and _.=-/."
        )
    if name == "destination" and url.rstrip("/").count("/") < 3:
        raise Problem(
            f"DESTINATION is {url}, a whole bucket: give a prefix in it, such as "
            f"{url.rstrip('/')}/v2. The instances may write nowhere else."
        )
