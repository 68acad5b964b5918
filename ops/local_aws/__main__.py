"""``python -m ops.local_aws``: a local AWS in the foreground, until Ctrl-C."""

import argparse
import sys
from pathlib import Path

from ops.local_aws.server import Server, serve
from tasks.problem import Problem


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.local_aws", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder for all it keeps")
    parser.add_argument(
        "--network",
        choices=("auto", "namespaces", "loopback"),
        default="auto",
        help="where instances have their addresses (%(default)s)",
    )
    parser.add_argument("--latency", type=float, default=0.0, help="seconds for every request")
    parser.add_argument("--registration-seconds", type=float, default=0.5, help="until SSM knows")
    parser.add_argument(
        "--ends-with-input", action="store_true", help="end when standard input ends"
    )
    given = parser.parse_args()
    try:
        server = Server(given.state, given.network, given.latency, given.registration_seconds)
    except Problem as problem:
        sys.exit(str(problem))
    serve(server, given.ends_with_input)


if __name__ == "__main__":
    main()
