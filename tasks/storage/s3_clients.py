"""The S3 clients of this process: where they find S3 and credentials, and how patient they are.

Each process makes its own, because connections do not survive a fork. Patience, and the retries of
a run with it, are those of luigi.cfg, but for clients whose name says otherwise.
"""

import functools
import os
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import botocore.session
from botocore import exceptions as aws
from botocore.config import Config

from tasks.out_of_memory import is_out_of_memory
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import dialect, s3_regions
from tasks.storage.patience import Patience
from tasks.storage.refusal import read_refusals
from tasks.storage.s3_attempts import Attempts
from tasks.storage.s3_credentials import (
    check_before_signing,
    must_be_a_name,
    remember_profiles,
    renew_credentials,
    session_of_process,
)
from tasks.storage.s3_errors import explained
from tasks.storage.s3_listing import list_quickly
from tasks.storage.s3_parameters import send_always
from tasks.storage.s3_regions import follow_regions
from tasks.storage.s3_resolution import make_resolvable
from tasks.storage.unusable_settings import unusable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_FIRST_LOOK = 4
_HASTY = Patience(connect=3, stall=5, request=15, attempts=2)
_attempts: "WeakKeyDictionary[S3Client, Attempts]" = WeakKeyDictionary()


@functools.lru_cache(maxsize=1)
def client_of_process(_pid: int) -> "S3Client":
    """The S3 client of this process, by its number so that a fork never shares connections."""
    return _make_client(load().patience)


@functools.lru_cache(maxsize=1)
def impatient_client(_pid: int) -> "S3Client":
    """For the first look at a place: a wrong address should not take a minute to find out."""
    return _make_client(replace(load().patience, attempts=_FIRST_LOOK))


@functools.lru_cache(maxsize=1)
def hasty_client(_pid: int) -> "S3Client":
    """For small objects that are read and written all the time: the next try finds them, too."""
    return _make_client(_HASTY)


def attempts_of(client: "S3Client") -> Attempts:
    """Those of a client; of one that was not made here, as many as boto3 itself makes."""
    return _attempts.get(client) or Attempts(replace(Patience(), attempts=1), lambda _: False)


def forget() -> None:
    """Drop all clients and what they were made of: the next are made anew."""
    for kept in (client_of_process, impatient_client, hasty_client, session_of_process):
        kept.cache_clear()
    s3_regions.forget()


def _make_client(patience: Patience) -> "S3Client":
    with explained("S3 cannot be reached"):
        for variable in ("AWS_DEFAULT_PROFILE", "AWS_PROFILE"):
            must_be_a_name(variable)
        session = session_of_process(os.getpid())
        remember_profiles(session)
        seems_aws = not any(map(os.environ.get, _ENDPOINTS))
        client = _created(session, patience, is_aws=seems_aws)
        if _is_aws(client) != seems_aws:  # a profile knows better
            client = _created(session, patience, is_aws=not seems_aws)
        list_quickly(client)
        read_refusals(client)
        follow_regions(client)
        check_before_signing(client)
        make_resolvable(client)
        send_always(client, load().s3_parameters)
        _attempts[client] = Attempts(patience, renew_credentials)
        _attempts[client].attach(client)
        return client


def _created(session: botocore.session.Session, patience: Patience, is_aws: bool) -> "S3Client":
    """boto3's client: buckets of AWS have host names of their own, those of other S3s rarely."""
    # As everywhere else but in boto3, which does not know this variable, it comes first.
    region = os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
    try:
        for variable in _ENDPOINTS:
            _ = urlsplit(os.environ.get(variable, "")).port  # boto3 finds out when it asks there
        says_how = "addressing_style" in (session.get_config_variable("s3") or {})
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 1},  # `Attempts` makes the others
            connect_timeout=patience.connect,
            read_timeout=patience.stall,
            max_pool_connections=32,
            s3=None if is_aws or says_how else {"addressing_style": "path"},
        )
        return session.create_client(  # type: ignore[return-value]
            "s3", region_name=region, config=config
        )
    except aws.InvalidRegionError:
        raise Problem(
            f"{region!r} is no region of AWS: correct AWS_REGION, such as us-east-1."
        ) from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise unusable(session, error, _ENDPOINTS) from None


def _is_aws(client: "S3Client") -> bool:
    return dialect.is_of_aws(client.meta.endpoint_url)
