"""The code for the instances: one archive, named by what is in it, in the destination's bucket.

It holds the packages `tasks` and `ops` as they lie here, committed or not, the lock file, and
luigi.cfg with this run's settings written in: what an instance does is decided by its bundle alone.
The same content makes the same bytes, whoever packs it and when. The address of the webhook is a
secret and never in it, nor is any section of luigi.cfg that instances do not need. Does not know
what an instance does with the code.
"""

import configparser
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from tasks.compression import gzip_member
from tasks.settings import (
    PROJECT,
    Ec2Settings,
    LocalSettings,
    NotifySettings,
    Settings,
    config_path,
    load,
    variable_of,
)
from tasks.storage.s3 import S3Prefix

_PACKAGES = ("tasks", "ops")
_LEFT_OUT = ("ops/audit.py", "ops/bench/", "ops/fuzz/", "ops/local_aws/", "ops/report/")
_FILES = ("requirements.lock", "ops/stack.yaml")
_SUFFIXES = (".py", ".sh", ".wasm")
_HASH_DIGITS = 16
_NAME = re.compile(rf"bustimes-[0-9a-f]{{{_HASH_DIGITS}}}\.tar\.gz")
_SECTIONS = {
    "bustimes": Settings,
    "local": LocalSettings,
    "ec2": Ec2Settings,
    "notify": NotifySettings,
}
_LUIGIS = ("core", "scheduler", "retcode")
"""The sections of luigi's own that instances go by; in others passwords and keys may stand."""
_OF_THIS_MACHINE = {
    # An instance has folders of its own; how many there are, and of what kind, makes no other code.
    "bustimes": {"spool"},
    "local": {"state", "s3_port"},
    "ec2": {"instance_types", "instances", "disk_gb", "log_days"},
    "notify": {"webhook"},
}


@dataclass(frozen=True)
class Bundle:
    """A gzipped tar file; `hash` is the beginning of the SHA-256 of the tar file in it."""

    hash: str
    data: bytes

    @property
    def name(self) -> str:
        return f"bustimes-{self.hash}.tar.gz"


def make(environment: Mapping[str, str] = os.environ, project: Path = PROJECT) -> Bundle:
    """The code in `project` with the settings of `environment`.

    Raises `Problem` where luigi.cfg cannot be read.
    """
    load(environment)  # says what is wrong with luigi.cfg, better than what follows
    contents = dict(_code(project))
    contents["luigi.cfg"] = _effective_settings(environment).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(contents):
            entry = tarfile.TarInfo(name)  # no time and no owner unless they are set
            entry.size = len(contents[name])
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(contents[name]))
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    return Bundle(digest[:_HASH_DIGITS], gzip_member(packed.getvalue(), level=9))


def root_of(destination: str, ec2: Ec2Settings) -> S3Prefix:
    """Where a stack's bundles lie: a prefix of its own in the bucket of the destination."""
    return S3Prefix(f"s3://{S3Prefix(destination).bucket}/{ec2.code_prefix}/{ec2.stack}")


def url_of(bundle: Bundle, root: S3Prefix) -> str:
    """Where a bundle is, or would be."""
    return root.address_of(bundle.name)


def upload(bundle: Bundle, root: S3Prefix) -> bool:
    """Upload a bundle unless it is there; returns whether it had to be."""
    if root.find(bundle.name) is not None:
        return False
    root.write(bundle.name, bundle.data)
    return True


def uploaded(root: S3Prefix) -> list[str]:
    """The keys below `root` of every bundle that is there; nothing else counts as one."""
    return [one.key for one in root.top_objects() if _NAME.fullmatch(one.key)]


def _code(project: Path) -> Iterator[tuple[str, bytes]]:
    for package in _PACKAGES:
        for path in (project / package).rglob("*"):
            name = path.relative_to(project).as_posix()
            is_code = path.suffix in _SUFFIXES and "/." not in name
            if is_code and not name.startswith(_LEFT_OUT) and path.is_file():
                yield name, path.read_bytes()
    for name in _FILES:
        yield name, (project / name).read_bytes()


def _effective_settings(environment: Mapping[str, str]) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(config_path(environment).read_text(encoding="utf-8"))
    for section in parser.sections():
        if section not in (*_SECTIONS, *_LUIGIS):
            parser.remove_section(section)
    for section, kind in _SECTIONS.items():
        if not parser.has_section(section):
            parser.add_section(section)
        for name in [field.name for field in fields(kind)]:
            given = environment.get(variable_of(section, name), "").strip()
            if given and name not in _OF_THIS_MACHINE[section]:
                parser.set(section, name, given)
    parser.set("notify", "webhook", "")
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
