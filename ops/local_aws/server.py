"""The server: every request to AWS passes here, on its way to moto or to what stands in for it.

In this order: who asks, is it one request too many, may they; then S3 with the checks of
`ops.embedded_s3`, the calls that this package answers itself, and moto for everything else. Beside
the requests runs one thread that keeps groups, instances and machines together.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.embedded_s3 import StrictS3, forget_aws, make_server
from ops.local_aws import plugin, prices
from ops.local_aws.agents import Agents, Behaviour
from ops.local_aws.backends import REGION, Backends
from ops.local_aws.buckets import Buckets
from ops.local_aws.groups import SPOT_QUOTA, Capacity, Groups
from ops.local_aws.hypervisor import Hypervisor
from ops.local_aws.iam import Access
from ops.local_aws.instances import Image, Machine, end_leftovers
from ops.local_aws.network import open_network, remove_orphans
from ops.local_aws.sessions import Sessions
from ops.local_aws.ssm import RunCommand
from ops.local_aws.stack_work import Workshop
from ops.local_aws.stacks import Stacks
from ops.local_aws.troubles import Troubles, answer_json
from ops.local_aws.users import make_users
from ops.local_aws.wire import Call, Refused, answer, identify, refuse
from tasks.problem import Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_STEP_SECONDS = 0.05
Handler = Callable[[Call], dict[str, Any]]


class Front:
    """The WSGI application."""

    def __init__(
        self,
        backends: Backends,
        access: Access,
        troubles: Troubles,
        groups: Groups,
        handlers: dict[tuple[str, str], Handler],
        latency_seconds: float,
    ) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._backends, self._access, self._troubles = backends, access, troubles
        self._groups, self._handlers = groups, handlers
        self._buckets = Buckets()
        self._latency = latency_seconds
        self._s3: WSGIApplication = StrictS3(create_backend_app("s3"))
        self._moto: WSGIApplication = DomainDispatcherApplication(create_backend_app)

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/_local/"):
            return self._local(environ, start_response)
        from moto.core.exceptions import ServiceException

        call = identify(environ)
        if self._latency:
            time.sleep(self._latency)
        try:
            identity = call.caller = self._access.identify(call)
            self._hold_while_cut_off(identity.instance)
            self._troubles.check(call)
            self._access.authorize(identity, call)
            if call.service == "s3":
                self._buckets.check(call, identity.account)
                return self._s3(environ, start_response)
            handler = self._handlers.get((call.service, call.action))
            if handler is not None:
                return answer(call, handler(call), start_response)
            if call.action in ("SetDesiredCapacity", "UpdateAutoScalingGroup"):
                self._groups.check_size(call)
        except Refused as refused:
            return refuse(call, refused, start_response)
        except ServiceException as error:  # of moto's, which a handler has asked
            return refuse(call, Refused(error.code, error.message), start_response)
        with self._backends.lock:
            try:
                return list(self._moto(environ, start_response))
            finally:
                if call.service in ("iam", "sts"):
                    self._access.changed()

    def _hold_while_cut_off(self, instance: str) -> None:
        """Where the network cannot be cut, requests get no answer instead, and do nothing."""
        machine = self._troubles.hypervisor.machines.get(instance)
        if machine is not None and machine.cut:
            while machine.cut and not machine.ended:
                time.sleep(0.1)
            raise Refused("ServiceUnavailable", "This came while the instance was cut off.", 503)

    def _local(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        name = environ["PATH_INFO"].removeprefix("/_local/")
        body = environ["wsgi.input"].read()
        result: dict[str, Any] = {}
        problem: Exception | None = None
        try:
            result = self._troubles.do(name, json.loads(body) if body else {})
        except (LookupError, ValueError, TypeError, OSError) as error:
            problem = error
        status, content = answer_json(problem, result)
        start_response(status, [("Content-Type", "application/json")])
        return [content]


class Server:
    """Everything together, from `start` to `stop`."""

    def __init__(
        self,
        state: Path,
        network: str = "auto",
        latency_seconds: float = 0.0,
        registration_seconds: float = 0.5,
    ) -> None:
        if not Path("/proc/self/environ").exists():
            raise Problem("The local AWS needs Linux, for /proc and an address for each instance.")
        self._state = state.resolve()
        self._state.mkdir(parents=True, exist_ok=True)
        for owner in (str(self._state), *remove_orphans()):
            if owner:
                end_leftovers(Path(owner))
        forget_aws()
        self._network = open_network(network, str(self._state))
        backends = self._backends = Backends()
        access = Access(backends)
        capacity = Capacity()
        self._http = make_server(self._network.gateway, 0, self._answer)
        self.endpoint = f"http://{self._network.gateway}:{self._http.port}"
        image = Image.make(self._state, self.endpoint, REGION)
        self._hypervisor = Hypervisor(backends, self._network, image, self._state / "instances")
        self._groups = Groups(backends, capacity, self._hypervisor.adopt)
        behaviour = Behaviour(registration_seconds=registration_seconds)
        agents = Agents(backends, self._hypervisor, access.instance_may, behaviour)
        commands = RunCommand(agents)

        def boot(machine: Machine) -> None:
            if capacity.unregistered > 0:
                capacity.unregistered -= 1
                behaviour.never.add(machine.id)
            agents.boot(machine)

        self._hypervisor.on_boot = boot
        self._sessions = Sessions(agents, self._network.gateway)
        sessions = self._sessions
        _offer_plugin(self._state / "laptop-bin")
        stacks = Stacks(Workshop(backends, self._groups.of), access.changed)
        troubles = Troubles(backends, self._hypervisor, capacity, agents, access, stacks)
        handlers: dict[tuple[str, str], Handler] = {
            ("autoscaling", "DescribeScalingActivities"): self._groups.activities,
            ("cloudformation", "CreateStack"): stacks.create_stack,
            ("cloudformation", "UpdateStack"): stacks.update_stack,
            ("cloudformation", "DeleteStack"): stacks.delete_stack,
            ("cloudformation", "DescribeStackResources"): stacks.describe_stack_resources,
            ("cloudformation", "ListStackResources"): stacks.list_stack_resources,
            ("ec2", "DescribeSpotPriceHistory"): lambda call: prices.history(call, backends),
            ("iam", "SimulatePrincipalPolicy"): access.simulate_principal_policy,
            ("servicequotas", "GetServiceQuota"): lambda call: _quota(call, capacity),
            ("ssm", "DescribeInstanceInformation"): agents.describe_instance_information,
            ("ssm", "SendCommand"): commands.send_command,
            ("ssm", "GetCommandInvocation"): commands.get_command_invocation,
            ("ssm", "ListCommandInvocations"): commands.list_command_invocations,
            ("ssm", "ListCommands"): commands.list_commands,
            ("ssm", "CancelCommand"): commands.cancel_command,
            ("ssm", "StartSession"): sessions.start_session,
            ("ssm", "TerminateSession"): sessions.terminate_session,
            ("ssm", "DescribeSessions"): sessions.describe_sessions,
        }
        self._front = Front(backends, access, troubles, self._groups, handlers, latency_seconds)
        self.users = make_users(backends)
        self._ending = threading.Event()

    def _answer(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        return self._front(environ, start_response)

    def start(self) -> None:
        """Begin to answer, and to keep groups, instances and machines together."""
        for work in (self._http.serve_forever, self._keep_together):
            threading.Thread(target=work, daemon=True).start()
        told = {"endpoint": self.endpoint, "users": self.users, "network": self._network.kind}
        path = self._state / "server.json"
        path.touch(0o600)
        path.write_text(json.dumps(told | {"process": os.getpid()}, indent=1))

    def _keep_together(self) -> None:
        while not self._ending.wait(_STEP_SECONDS):
            try:
                with self._backends.lock:
                    self._groups.reconcile()
                    self._hypervisor.step()
            except Exception:
                traceback.print_exc()

    def stop(self) -> None:
        """End all machines and take the network away."""
        self._ending.set()
        self._sessions.close()
        self._hypervisor.close()
        self._network.close()


def _offer_plugin(folder: Path) -> None:
    """session-manager-plugin as a command, for the laptop's PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / "session-manager-plugin"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{plugin.__file__}" "$@"\n')
    path.chmod(0o755)


def _quota(call: Call, capacity: Capacity) -> dict[str, Any]:
    code = call.parameters["QuotaCode"]
    if code != SPOT_QUOTA:
        raise Refused("NoSuchResourceException", "The request failed because there is no quota.")
    name = "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"
    shown = {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": capacity.quota_vcpus,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
    return {"Quota": shown}


def serve(server: Server, ends_with_input: bool) -> None:
    """Run until told to end: SIGTERM, SIGINT or, where asked for, the end of standard input."""
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    server.start()
    if ends_with_input:

        def watch() -> None:
            sys.stdin.read()
            done.set()

        threading.Thread(target=watch, daemon=True).start()
    print(f"AWS on {server.endpoint}", flush=True)
    done.wait()
    server.stop()
