#!/usr/bin/env bash
# Has the instance it runs on take part in what the fleet does: starts its member in the background,
# unless it runs already with the same code; one with other code is asked to end first, and killed
# if it has not done so in two minutes. What the member says goes to log/member.log.
set -euo pipefail

home=${BUSTIMES_HOME:-/opt/bustimes}
[[ -r $home/environment ]] || {
    echo "This instance is not set up yet: make setup ON=ec2." >&2
    exit 1
}
# shellcheck source=/dev/null
. "$home/environment"

exec 8>"$home/join.lock"
flock -w 300 8 || {
    echo "Another start of the member has taken five minutes; try again." >&2
    exit 1
}

# Waits for the member's process group and code, and reads them.
who() {
    for _ in {1..200}; do
        [[ ! -s $home/member.id ]] || break
        sleep 0.05
    done
    read -r group code <"$home/member.id"
}

# The member, and what keeps it running, hold this lock as long as they live.
exec 9>>"$home/member.lock"
if ! flock -n 9; then
    who
    if [[ $code == "$BUSTIMES_CODE" ]]; then
        echo "The member runs already (process $group)."
        exit 0
    fi
    echo "The member with the code $code is asked to end."
    kill -TERM -- "-$group" || true # it may just have ended
    if ! flock -w "${BUSTIMES_LEAVE_SECONDS:-120}" 9; then
        echo "It does not, so it is killed; what it had not finished is done again."
        kill -KILL -- "-$group" || true
        flock -w 30 9 || {
            echo "Process $group does not end even so. Terminate the instance: it is replaced." >&2
            exit 1
        }
    fi
fi

rm -f "$home/member.id"
setsid "${BASH:-bash}" "${LUIGI_CONFIG_PATH%/*}/ops/ec2/scripts/member.sh" \
    </dev/null >>"$home/log/member.log" 2>&1 8>&- &
who || {
    echo "The member does not start. The end of $home/log/member.log:" >&2
    tail -n 15 "$home/log/member.log" >&2
    exit 1
}
echo "The member is started (process $group) with the code $code."
