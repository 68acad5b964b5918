#!/usr/bin/env bash
# Runs a command of the project on the instance it runs on, as `make COMMAND` does elsewhere; passes
# on its exit code.
#
#     command.sh [SETTING=VALUE …] COMMAND [ARGUMENT …]
set -euo pipefail

home=${BUSTIMES_HOME:-/opt/bustimes}
[[ -r $home/environment ]] || {
    echo "This instance is not set up yet: make setup ON=ec2." >&2
    exit 1
}
# shellcheck source=/dev/null
. "$home/environment"
while [[ ${1-} =~ ^[A-Z][A-Z0-9_]*= ]]; do
    export "${1?}"
    shift
done
cd "${LUIGI_CONFIG_PATH%/*}"
exec "$BUSTIMES_PYTHON" -m ops "$@"
