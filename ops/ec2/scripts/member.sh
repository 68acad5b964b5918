#!/usr/bin/env bash
# Keeps the instance's member running: starts it again when it fails, ends when it ends well or when
# this process group gets a SIGTERM. Started by join.sh, in a session of its own and with the lock
# that says that a member runs, which the member inherits.
set -euo pipefail

# shellcheck source=/dev/null
. "${BUSTIMES_HOME:-/opt/bustimes}/environment"
cd "${LUIGI_CONFIG_PATH%/*}"

stopped=
trap 'stopped=yes' TERM INT
printf '%s %s\n' "$$" "$BUSTIMES_CODE" >"$BUSTIMES_HOME/member.new"
mv "$BUSTIMES_HOME/member.new" "$BUSTIMES_HOME/member.id"

while true; do
    code=0
    "$BUSTIMES_PYTHON" -m ops.ec2.member || code=$?
    [[ $code != 0 && -z $stopped ]] || exit "$code"
    TZ=UTC printf '%(%FT%TZ)T The member has ended with code %s; it starts again in 5 seconds.\n' -1 "$code"
    sleep 5 || true
    [[ -z $stopped ]] || exit "$code"
done
