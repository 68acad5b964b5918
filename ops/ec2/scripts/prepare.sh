#!/usr/bin/env bash
# Sets up the instance it runs on: Python, the code, what the code depends on, where things lie.
#
#     prepare.sh s3://bucket/_ops/<stack>/bustimes-<hash>.tar.gz REGION
#
# Says a line for each step. What is there already stays as it is, and two at once wait for each
# other, so it may run at any time and any number of times. Only when the new code has proved that
# it can be imported does anything point to it. Starts nothing: join.sh does.
set -euo pipefail
umask 022

url=$1
region=$2
home=${BUSTIMES_HOME:-/opt/bustimes}
log=$home/log/prepare.log
needed_mb=1000 # what the dependencies take, and as much again to unpack them

say() { printf '%-12s %s\n' "$1" "$2"; }

free_mb() { df -Pk "$home" | awk 'NR == 2 { print int($4 / 1024) }'; }

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

disk_full() {
    fail "The disk is full: $home has $(free_mb) MB left and the set-up needs $needed_mb MB. Give \
new instances more (disk_gb in [ec2] of luigi.cfg), then make setup ON=ec2 again."
}

# Runs a command, with its output in the log and in $output; false if it fails.
quietly() {
    local code=0
    output=$("$@" 2>&1) || code=$?
    printf '%s\n' "\$ $*" "$output" >>"$log" || code=1
    [[ $code == 0 || $output != *"No space left on device"* ]] || disk_full
    return "$code"
}

# The last words of a command that failed, then what to do.
fail_after_output() {
    printf '%s\n' "$output" | tail -n 15 >&2
    (($(free_mb) >= 50)) || disk_full
    fail "$1 The whole output is in $log."
}

mkdir -p "$home/code" "$home/venv" "$home/log" "$home/state" "$home/spool" ||
    fail "$home cannot be made. Run this as root, or with another BUSTIMES_HOME."
touch "$log" 2>/dev/null || disk_full

exec 9>"$home/prepare.lock"
if ! flock -n 9; then
    say set-up "another one is at it; waiting"
    flock -w 1200 9 ||
        fail "Another set-up has been at it for 20 minutes. Look at $log, or take a new instance."
fi

rm -rf "$home"/.new-* # from a set-up that was killed

has_python() { python3.11 -c 'import pip' 2>/dev/null; }

if has_python; then
    say Python "already there: $(python3.11 --version)"
else
    quietly dnf install -y python3.11 python3.11-pip || fail_after_output \
        "Python 3.11 cannot be installed. If no package index was reached: the instance's subnet \
needs a way out to the internet, by a public address or a NAT gateway."
    has_python || fail_after_output \
        "dnf has installed no Python 3.11 with pip: use the image of Amazon Linux 2023."
    say Python "installed: $(python3.11 --version)"
fi

hash=${url##*/bustimes-}
hash=${hash%.tar.gz}
[[ $hash =~ ^[0-9a-f]{8,64}$ ]] || fail "$url is not the name of a bundle of this project's code."
code=$home/code/$hash
if [[ -e $code/.complete ]]; then
    say code "already there: $hash"
else
    new=$(mktemp -d "$home/.new-XXXXXX") || disk_full
    trap 'rm -rf "$new"' EXIT
    mkdir "$new/code"
    quietly aws s3 cp --only-show-errors --region "$region" "$url" "$new/bundle.tar.gz" ||
        fail_after_output "$url cannot be fetched. If it is not there: make setup ON=ec2 uploads it \
again. If access is denied: the instance's role needs s3:GetObject on it."
    # Its name is the beginning of the hash of what is packed in it.
    if ! quietly gzip -d "$new/bundle.tar.gz" ||
        [[ $(sha256sum <"$new/bundle.tar") != "$hash"* ]]; then
        fail "$url is not what its name says, so it is damaged or somebody else's. Remove it, and \
make setup ON=ec2 uploads it again."
    fi
    quietly tar -xf "$new/bundle.tar" -C "$new/code" --no-same-owner || fail_after_output \
        "$url cannot be unpacked. Remove it, and make setup ON=ec2 uploads it again."
    touch "$new/code/.complete"
    rm -rf "$code"
    mv -T "$new/code" "$code"
    rm -rf "$new"
    say code "installed: $hash"
fi

key=$({
    python3.11 --version
    cat "$code/requirements.lock"
} | sha256sum | cut -c 1-16)
venv=$home/venv/$key
if [[ -e $venv/.complete ]]; then
    say packages "already there: $key"
else
    rm -rf "$venv" # half made by a set-up that was killed
    (($(free_mb) >= needed_mb)) || disk_full
    quietly python3.11 -m venv --without-pip "$venv" ||
        fail_after_output "No environment for Python's packages can be made in $venv."
    if ! quietly python3.11 -m pip --python "$venv/bin/python" install --require-hashes --no-input \
        --no-cache-dir --disable-pip-version-check --progress-bar off \
        -r "$code/requirements.lock"; then
        [[ $output != *"DO NOT MATCH THE HASHES"* ]] || fail_after_output \
            "The package index has other files than requirements.lock names. Nothing of it was \
installed; try again later, and do not change the hashes before you know why."
        fail_after_output "Python's packages cannot be installed. If no package index was reached: \
the instance's subnet needs a way out to the internet, by a public address or a NAT gateway."
    fi
    touch "$venv/.complete"
    say packages "installed: $key"
fi

# Where things lie, for every process that is to work here.
environment() {
    printf 'export %s=%q\n' \
        AWS_REGION "$region" \
        AWS_DEFAULT_REGION "$region" \
        BUSTIMES_HOME "$home" \
        BUSTIMES_ON ec2 \
        BUSTIMES_CODE "$hash" \
        BUSTIMES_PYTHON "$venv/bin/python" \
        BUSTIMES_SPOOL "$home/spool" \
        LOCAL_STATE "$home/state" \
        LUIGI_CONFIG_PATH "$code/luigi.cfg" \
        PYTHONUNBUFFERED 1
    # Somebody else's PYTHONPATH stays behind ours.
    printf "export PYTHONPATH=%q\${PYTHONPATH:+:\$PYTHONPATH}\n" "$code"
}
proof='
import importlib.metadata, platform, shlex, sys
import boto3, deflate, luigi, msgspec, orjson, pycurl, tqdm
import ops.__main__, ops.metrics, tasks.bustimes.graph, tasks.settings
settings = tasks.settings.load()
for name in "source", "destination":
    print(f"export BUSTIMES_{name.upper()}={shlex.quote(getattr(settings, name))}")
versions = [f"{name} {importlib.metadata.version(name)}" for name in ("luigi", "pycurl", "boto3")]
print("Python", platform.python_version(), "with", ", ".join(versions), file=sys.stderr)
'
new=$(mktemp -d "$home/.new-XXXXXX") || disk_full
trap 'rm -rf "$new"' EXIT
environment >"$new/environment" || disk_full
(
    # shellcheck source=/dev/null
    . "$new/environment"
    unset BUSTIMES_SOURCE BUSTIMES_DESTINATION # for those of luigi.cfg
    cd "$code"
    "$BUSTIMES_PYTHON" -c "$proof"
) >"$new/places" 2>"$new/said" || {
    output=$(<"$new/said")
    fail_after_output "The code $hash cannot be imported here."
}
cat "$new/places" >>"$new/environment" || disk_full
say imports "$(tail -n 1 "$new/said")"

if [[ -e $home/environment && $(<"$home/environment") == "$(<"$new/environment")" ]] &&
    [[ $(readlink "$home/current") == "code/$hash" ]]; then
    say environment "already right"
else
    mv -T "$new/environment" "$home/environment"
    ln -s "code/$hash" "$new/current" # for people; processes go by the environment
    mv -T "$new/current" "$home/current"
    say environment "written: $home/environment"
fi

# User data runs at an instance's first boot; what lies here, cloud-init runs at every one.
boot=/var/lib/cloud/scripts/per-boot
[[ -z ${BUSTIMES_HOME-} ]] || boot=$home/boot
if [[ $(readlink "$boot/bustimes") == "$home/current/ops/ec2/scripts/join.sh" ]]; then
    say reboot "already provided for"
else
    mkdir -p "$boot"
    ln -sfn "$home/current/ops/ec2/scripts/join.sh" "$boot/bustimes"
    say reboot "provided for: $boot/bustimes"
fi
