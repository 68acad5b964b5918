#!/usr/bin/env bash
# Proves that the instance it runs on can do its work: it lists a raw snapshot and writes an object.
set -euo pipefail

home=${BUSTIMES_HOME:-/opt/bustimes}
[[ -r $home/environment ]] || {
    echo "This instance is not set up yet: make setup ON=ec2." >&2
    exit 1
}
# shellcheck source=/dev/null
. "$home/environment"
cd "${LUIGI_CONFIG_PATH%/*}"
exec "$BUSTIMES_PYTHON" -m ops.ec2.prove
