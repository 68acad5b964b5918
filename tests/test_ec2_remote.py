"""Scripts sent to simulated instances of a local AWS, which truly run them."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.ec2 import remote
from ops.ec2.aws import Aws
from ops.local_aws import LocalAws
from tasks.problem import Problem
from tests.ec2_crew import STACK, Crew, Heard
from tests.gate import LOST, Gate, Refusal
from tests.local_cloud import wait_for

pytestmark = pytest.mark.soak

WAITS = "echo begun; until [[ -e $BUSTIMES_HOME/go ]]; do sleep 0.05; done\n"
SAFE = st.text("abcXYZ019._:/=,@+*?[]-", max_size=30)


def become(aws: LocalAws, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.environment(user).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "argument",
    [
        *("2021-W45;reboot", "$(id)", "`id`", "a b", "a'b", 'a"b', "a\\b", "a\nb", "a|b", "a&b"),
        *("{{ssm:password}}", "~", "a>b", "a<b", "#", "!", "(", "ä", "\x00"),
    ],
)
def test_an_argument_that_a_shell_might_read_is_refused(argument: str, script: Path) -> None:
    script.write_text("exit 0\n")
    with pytest.raises(Problem, match="is not sent to instances") as refused:
        remote.run(Aws("us-east-1"), STACK, script, ["ok", argument], on_line=Heard())
    assert repr(argument) in str(refused.value)


@given(st.text(max_size=30))
def test_exactly_the_safe_characters_are_allowed(argument: str) -> None:
    safe = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/=,@+-*?[]")
    script = Path(remote.__file__).parent / "scripts/command.sh"
    if set(argument) <= safe:
        assert remote.compose(script, [argument], "end")
    else:
        with pytest.raises(Problem):
            remote.compose(script, [argument], "end")


@settings(max_examples=20)
@given(st.lists(SAFE, max_size=5))
def test_arguments_arrive_as_they_are(arguments: list[str]) -> None:
    script = Path(remote.__file__).parent / "scripts/command.sh"
    text = remote.compose(script, arguments, "the end")
    # What is in front of the script, and a script that shows what it was given.
    sent = text.replace(script.read_text(), 'printf \'<%s>\\n\' "$#" "$@"; exit 7')
    done = subprocess.run(["bash", "-c", sent], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        f"<{len(arguments)}>",
        *(f"<{a}>" for a in arguments),
        "the end",
    ]
    assert done.returncode == 7


def test_every_instance_with_the_tag_runs_it(crew: Crew, script: Path) -> None:
    script.write_text(
        "set -euo pipefail\n"
        'echo "out $*"; echo "err $1" >&2; echo; echo "äöü"\n'
        'exit "$(cat "$BUSTIMES_HOME/code" 2>/dev/null || echo 0)"\n'
    )
    first, second = crew.instances
    (crew.home(second) / "code").write_text("3")
    heard = Heard()
    codes = remote.run(crew.caller, STACK, script, ["a=1", "b"], on_line=heard)
    assert codes == {first: 0, second: 3}
    for instance in crew.instances:
        said = [line for line in heard.of(instance) if line]
        assert said == ["out a=1 b", "err a=1", "äöü"]
    only = Heard()
    assert remote.run(crew.caller, STACK, script, ["c"], instances=[first], on_line=only) == {
        first: 0
    }
    assert {instance for instance, _ in only.lines} == {first}


def test_a_long_text_comes_whole_and_while_it_is_printed(crew: Crew, script: Path) -> None:
    script.write_text(
        'for number in {1..4000}; do echo "line $number of a text longer than SSM keeps"; done\n'
        'until [[ -e $BUSTIMES_HOME/heard ]]; do sleep 0.1; done; rm "$BUSTIMES_HOME/heard"\n'
        "echo heard; exec bash -c 'echo last'\n"
    )
    heard, one = Heard(), crew.instances[0]
    home = crew.home(one)

    def on_line(instance: str, line: str) -> None:
        heard(instance, line)
        if line.startswith("line 4000 "):  # it would wait for ever if this came in the end only
            (home / "heard").touch()

    codes = remote.run(
        crew.caller, STACK, script, instances=[one], on_line=on_line, timeout_seconds=60
    )
    assert codes == {one: 0}
    lines = [f"line {n} of a text longer than SSM keeps" for n in range(1, 4001)]
    assert heard.of(one) == [*lines, "heard", "last"]


def test_without_the_right_to_read_logs_the_text_is_cut_and_said_to_be(
    crew: Crew, script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    iam = crew.aws.client("iam")
    iam.create_user(UserName="no-logs")
    allowed = {"Effect": "Allow", "Action": "ssm:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName="no-logs", PolicyName="ssm", PolicyDocument=policy)
    key = iam.create_access_key(UserName="no-logs")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    one = crew.instances[0]
    for count, is_cut in ((10, False), (4000, True)):
        script.write_text(f'for n in {{1..{count}}}; do echo "line $n"; done; exit 4\n')
        heard = Heard()
        codes = remote.run(Aws("us-east-1"), STACK, script, instances=[one], on_line=heard)
        assert codes == {one: 4}
        assert heard.of(one)[:10] == [f"line {n}" for n in range(1, 11)]
        said = capsys.readouterr().err
        assert ("may not be read from the log group /crew, so it is cut" in said) == is_cut
        assert (len(heard.of(one)) == count) != is_cut


def test_without_a_log_group_a_short_text_comes_in_the_end(crew: Crew, script: Path) -> None:
    script.write_text("echo one; echo two; exit 5\n")
    heard, one = Heard(), crew.instances[0]
    assert remote.run(crew.caller, "no-stack", script, instances=[one], on_line=heard) == {one: 5}
    assert heard.of(one) == ["one", "two"]


def test_a_script_that_takes_too_long_is_stopped(crew: Crew, script: Path) -> None:
    script.write_text("echo begun; sleep 600\n")
    heard, one = Heard(), crew.instances[0]
    with pytest.raises(Problem, match=f"was stopped on {one}, for it was not done after 1 s"):
        remote.run(crew.caller, STACK, script, instances=[one], on_line=heard, timeout_seconds=1)
    assert heard.of(one) == ["begun"]
    wait_for(lambda: not crew.processes(one), "processes ended")


def test_an_instance_out_of_reach_is_named(crew: Crew, script: Path) -> None:
    script.write_text("echo here\n")
    near, far = crew.instances
    heard = Heard()
    crew.aws.trouble("ssm", lost=[far], delivery_seconds=0.5)
    with pytest.raises(Problem) as late:
        remote.run(crew.caller, STACK, script, instances=[near, far], on_line=heard)
    assert f"could not be delivered to {far} within 60 s (DeliveryTimedOut)" in str(late.value)
    assert near not in str(late.value)
    assert heard.lines == [(near, "here")]  # the other is not held up
    crew.aws.trouble("ssm", lost=[], undeliverable=[far])
    with pytest.raises(Problem, match=rf"{far} .* \(Undeliverable\).*Terminate it, and the fleet"):
        remote.run(crew.caller, STACK, script, instances=[far], on_line=heard)


def test_an_instance_that_is_lost_on_the_way_is_given_up(
    crew: Crew, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_LOOK_SECONDS", 0.2)
    script.write_text(
        "echo begun; until [[ -e $BUSTIMES_HOME/go ]]; do sleep 0.05; done; echo done\n"
    )
    near, far = crew.instances
    heard = Heard()
    (crew.home(near) / "go").touch()

    def on_line(instance: str, line: str) -> None:
        heard(instance, line)
        if (instance, line) == (far, "begun"):
            crew.aws.trouble("ssm", lost=[far])

    try:
        with pytest.raises(Problem, match=f"SSM has lost {far} while try.sh ran there"):
            remote.run(crew.caller, STACK, script, instances=crew.instances, on_line=on_line)
        assert heard.of(near) == ["begun", "done"]
    finally:
        (crew.home(far) / "go").touch()
    wait_for(lambda: not crew.processes(far), "script ended")


def test_ctrl_c_cancels_it_there(
    crew: Crew, script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.write_text("echo begun; sleep 600; echo never\n")

    def interrupt(_instance: str, _line: str) -> None:
        raise KeyboardInterrupt

    one = crew.instances[0]
    with pytest.raises(KeyboardInterrupt):
        remote.run(crew.caller, STACK, script, instances=[one], on_line=interrupt)
    assert f"try.sh is cancelled on {one}." in capsys.readouterr().err
    wait_for(lambda: not crew.processes(one), "processes ended")


def test_ctrl_c_leaves_it_to_itself_if_that_is_wanted(
    crew: Crew, script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.write_text(f'{WAITS}mv "$BUSTIMES_HOME/go" "$BUSTIMES_HOME/gone"\n')

    def interrupt(_instance: str, _line: str) -> None:
        raise KeyboardInterrupt

    one = crew.instances[0]
    home = crew.home(one)
    with pytest.raises(KeyboardInterrupt):
        remote.run(
            crew.caller,
            STACK,
            script,
            instances=[one],
            on_line=interrupt,
            cancel_on_interrupt=False,
        )
    assert f"try.sh goes on on {one}" in capsys.readouterr().err
    (home / "go").touch()
    wait_for((home / "gone").exists, "it went on")


def test_somebody_else_may_cancel_it(crew: Crew, script: Path) -> None:
    script.write_text("echo begun; sleep 600\n")
    ssm, one = crew.aws.client("ssm"), crew.instances[0]

    def cancel(_instance: str, _line: str) -> None:
        running = [one for one in ssm.list_commands()["Commands"] if one["Status"] == "InProgress"]
        ssm.cancel_command(CommandId=running[0]["CommandId"])

    with pytest.raises(Problem, match=f"try.sh was cancelled on {one}"):
        remote.run(crew.caller, STACK, script, instances=[one], on_line=cancel)


def test_a_script_that_is_killed_is_no_success(crew: Crew, script: Path) -> None:
    heard, one = Heard(), crew.instances[0]
    script.write_text("echo begun; kill -KILL $$\n")
    codes = remote.run(crew.caller, STACK, script, instances=[one], on_line=heard)
    assert codes == {one: 128 + signal.SIGKILL}
    script.write_text("echo begun; kill -KILL 0\n")  # and the shell that it was started by
    with pytest.raises(Problem, match=f"try.sh was killed on {one}, or SSM could not start it"):
        remote.run(crew.caller, STACK, script, instances=[one], on_line=heard)
    assert heard.of(one).count("begun") == 2


def test_an_instance_that_ssm_does_not_know_is_named(crew: Crew, script: Path) -> None:
    script.write_text("exit 0\n")
    near, stranger = crew.instances[0], "i-0123456789abcdef0"
    with pytest.raises(Problem, match=f"SSM does not know {stranger}, or has lost sight of it"):
        remote.run(
            crew.caller,
            STACK,
            script,
            instances=[near, stranger],
            on_line=Heard(),
        )
    with pytest.raises(Problem, match="SSM knows none of the stack nobody"):
        remote.run(crew.caller, "nobody", script, on_line=Heard())


def test_throttling_is_waited_out(crew: Crew, script: Path) -> None:
    script.write_text("exit 6\n")
    for action in ("SendCommand", "ListCommandInvocations", "GetCommandInvocation"):
        crew.aws.trouble("throttle", service="ssm", action=action, times=1)
    crew.aws.trouble("throttle", service="logs", action="GetLogEvents", times=1)
    one = crew.instances[0]
    codes = remote.run(crew.caller, STACK, script, instances=[one], on_line=Heard())
    assert codes == {one: 6}


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("reader", "you lack the permission ssm:SendCommand"),
        ("expired", "the credentials have expired; log in again"),
    ],
)
def test_who_may_not_send_is_told_what_is_missing(
    crew: Crew, script: Path, monkeypatch: pytest.MonkeyPatch, user: str, words: str
) -> None:
    script.write_text("exit 0\n")
    become(crew.aws, user, monkeypatch)
    with pytest.raises(Problem, match=words):
        remote.run(Aws("us-east-1"), STACK, script, instances=crew.instances[:1], on_line=Heard())


def test_a_laptop_that_sleeps_hears_the_rest_when_it_wakes(
    crew: Crew, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.write_text(f"{WAITS}echo done\n")
    make = Aws._make_client
    monkeypatch.setattr(Aws, "_make_client", lambda aws, service, **_: make(aws, service, 1))
    heard, one = Heard(), crew.instances[0]
    home = crew.home(one)

    with Gate(crew.aws.endpoint) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)

        def sleep(instance: str, line: str) -> None:
            heard(instance, line)
            if line == "begun":
                asleep.append(gate.refuse("POST", "", LOST, times=4))
                (home / "go").touch()

        asleep: list[Refusal] = []
        codes = remote.run(Aws("us-east-1"), STACK, script, instances=[one], on_line=sleep)
    assert codes == {one: 0}
    assert heard.of(one) == ["begun", "done"]
    assert asleep[0].is_over


def test_credentials_that_expire_on_the_way_leave_it_running(crew: Crew, script: Path) -> None:
    script.write_text(WAITS)
    one = crew.instances[0]
    home = crew.home(one)
    key = crew.aws.environment("admin")["AWS_ACCESS_KEY_ID"]

    def expire(_instance: str, _line: str) -> None:
        crew.aws.trouble("expire", access_key=key)

    with pytest.raises(Problem) as stopped:
        remote.run(crew.caller, STACK, script, instances=[one], on_line=expire)
    assert "the credentials have expired" in str(stopped.value)
    assert f"What was sent goes on on {one}" in str(stopped.value)
    crew.aws.trouble("expire", access_key=key, expired=False)
    assert crew.processes(one)
    (home / "go").touch()
    wait_for(lambda: not crew.processes(one), "script ended")
