"""luigid, Luigi's central scheduler with its web page: every task, its progress and its history.

It listens on 127.0.0.1 unless told otherwise, because it has no password, and keeps what it knows
in its own folder: the tasks (written when it is stopped properly) and their history (written at
once); what is damaged of them is put aside (`ops.luigid_files`), and its pages ask nothing of the
internet (`ops.luigid_page`). Settings come from luigi.cfg; this module only says where the files
go, and mends what keeps luigid's history from working with today's SQLAlchemy. It schedules nothing
itself.
"""

import logging
import sys
from pathlib import Path

from ops.service import Service, python_path
from tasks import secrets


def make_service(
    state_folder: Path, port: int, config_path: Path, host: str = "127.0.0.1"
) -> Service:
    """luigid as a background service, with all its files in `state_folder`/luigid.

    `host` is the address to listen on: another than the default only where a firewall keeps
    strangers from it.

    `config_path` is the luigi.cfg to read; a missing one is as good as an empty one.
    """
    folder = state_folder.resolve() / "luigid"
    # Paths are relative to the service's working directory, which is `folder`: Luigi would take a
    # % in an absolute one for a reference to another setting.
    return Service(
        name="Luigi scheduler",
        command=[
            *(sys.executable, "-m", "ops.luigid"),
            *("--address", host, "--port", str(port), "--state-path", "state.pickle"),
        ],
        port=port,
        port_setting="luigid_port in [local] of luigi.cfg",
        ready_url=f"http://{host}:{port}/static/visualiser/index.html",
        log_path=folder / "luigid.log",
        pid_path=folder / "luigid.pid",
        host=host,
        env={
            "LUIGI_CONFIG_PATH": str(config_path.resolve()),
            "PYTHONPATH": python_path(),
            "PYTHONUNBUFFERED": "1",
        },
    )


def main() -> None:
    """Run luigid, with its own options, in the folder that keeps its files."""
    import luigi.cmdline
    import luigi.configuration
    import luigi.server

    from ops import luigid_files
    from ops.luigid_page import make_own

    secrets.guard()
    config = luigi.configuration.get_config()
    if not config.has_option("task_history", "db_connection"):
        config.set("task_history", "db_connection", f"sqlite:///{luigid_files.HISTORY}")
        if config.getboolean("scheduler", "record_task_history", False):
            luigid_files.check_history()
    if config.getboolean("scheduler", "record_task_history", False):
        _mend_history()
    luigid_files.check_state()
    app_of = luigi.server.app
    luigi.server.app = lambda scheduler: make_own(app_of(scheduler))
    # One line for every request of every worker would bury the rest.
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
    luigi.cmdline.luigid(sys.argv[1:])


def _mend_history() -> None:
    """Skip the upgrade of databases written by Luigi 2, whose SQL SQLAlchemy 2 refuses to run.

    Without this luigid (3.8.1) does not start with `record_task_history = true`. A database that is
    made now needs no upgrade.
    """
    from luigi import db_task_history

    from ops.luigid_files import forgiving_history

    setattr(db_task_history, "DbTaskHistory", forgiving_history())  # noqa: B010, a class of types
    db_task_history._upgrade_schema = lambda _engine: None


if __name__ == "__main__":
    main()
