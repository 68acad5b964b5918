"""Where a command runs: which source and destination it means, and the services it needs.

As the project ships, and without SOURCE and DESTINATION, that is this machine: the embedded S3
server, with the bucket of luigi.cfg in it. It is reached without any AWS setting or proxy of the
machine's, so that nothing can leave it. With both, given for one run or changed in luigi.cfg, it is
what they say, and AWS's own variables mean what they always do.
`prepare` sets the environment for this process and those it starts; nothing here starts anything
unless asked.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.request import getproxies_environment

from ops import embedded_s3, luigid
from ops.aws_settings import without_aws, without_proxies
from ops.service import Service
from tasks.problem import Problem
from tasks.settings import config_path, load, load_local, variable_of
from tasks.storage.address import is_s3

_AS_SHIPPED = {"source": "s3://bustimes-data", "destination": "s3://bustimes-data/v2"}


@dataclass(frozen=True)
class Place:
    """This machine with or without its embedded S3 server."""

    state: Path
    s3: Service | None
    luigid: Service

    @property
    def page(self) -> str:
        """luigid's page, with every week and its progress."""
        return f"http://127.0.0.1:{self.luigid.port}/static/visualiser/index.html"

    def start(self, with_luigid: bool) -> None:
        """Start what the place needs; what runs already is left alone."""
        self.make_state()
        if self.s3 is not None:
            self.s3.start()
            _make_bucket()
        if with_luigid:
            self.luigid.start()

    def make_state(self) -> None:
        """The folder of this machine's own files, which must be there and writable."""
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            if not os.access(self.state, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise Problem(
                f"{self.state}, for the logs and services of this machine, cannot be written: "
                f"{error.strerror}. Set state in [local] of luigi.cfg (or LOCAL_STATE, for one "
                "run) to a folder of yours."
            ) from None

    @property
    def services(self) -> list[Service]:
        """Every service that the place may need."""
        return [self.luigid] if self.s3 is None else [self.s3, self.luigid]

    @property
    def logs(self) -> Path:
        """The folder where the commands' lines are kept."""
        return self.state / "log"


def prepare() -> Place:
    """The place that the environment asks for; raises `Problem` where it asks for half of one."""
    local = load_local()
    scheduler = luigid.make_service(local.state, local.luigid_port, config_path())
    os.environ.setdefault("LUIGI_CONFIG_PATH", str(config_path()))
    # A proxy is for the world outside. Which exceptions count is Python's answer, as it is boto3's.
    excepted = getproxies_environment().get("no", "").strip()
    if excepted != "*":
        excepted = ",".join(filter(None, [excepted, "127.0.0.1", "localhost"]))
    os.environ |= {"NO_PROXY": excepted, "no_proxy": excepted}
    chosen = [name.upper() for name in _AS_SHIPPED if _is_chosen(name)]
    if len(chosen) == 2:
        return Place(local.state, None, scheduler)
    if chosen:
        raise _half_of_a_place(chosen[0])
    server = embedded_s3.make_service(local.state, local.s3_port)
    _set_environment(
        without_proxies(without_aws(os.environ))
        | {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{local.s3_port}",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
        }
    )
    return Place(local.state, server, scheduler)


def _set_environment(environment: dict[str, str]) -> None:
    """Have this process, and those that it starts, see these variables and no others."""
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


def _half_of_a_place(chosen: str) -> Problem:
    """Why one of the two alone is refused, by where it was given."""
    [other] = {"SOURCE", "DESTINATION"} - {chosen}
    if os.environ.get(variable_of("bustimes", chosen), "").strip():
        return Problem(
            f"{chosen} is given without {other}. Give both, each s3://bucket/prefix or a folder; "
            "or neither, to try things out on this machine."
        )
    return Problem(
        f"{config_path()} sets {chosen.lower()} to a place of yours, and {other.lower()} is still "
        f"{_AS_SHIPPED[other.lower()]}. Set both there, each s3://bucket/prefix or a folder, or "
        "give both for one run: SOURCE=… DESTINATION=…."
    )


def _is_chosen(setting: str) -> bool:
    """Whether a person has said where, for this run or in luigi.cfg."""
    given = os.environ.get(variable_of("bustimes", setting), "").strip()
    return bool(given) or getattr(load(), setting) != _AS_SHIPPED[setting]


def everything() -> Place:
    """The place with every service that any command may have started."""
    local = load_local()
    return Place(
        local.state,
        embedded_s3.make_service(local.state, local.s3_port),
        luigid.make_service(local.state, local.luigid_port, config_path()),
    )


def _make_bucket() -> None:
    from tasks.storage.s3 import S3Prefix

    for url in (load().source, load().destination):
        if is_s3(url):
            S3Prefix(url).make_bucket()
