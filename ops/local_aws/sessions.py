"""SSM's sessions: TCP connections from a laptop to a port that an instance can reach.

StartSession gives a token and the address of the data channel. For each connection that somebody
makes to the plugin's local port, the plugin opens one to that address, names its token, and from
then on bytes go both ways between it and the port, which is reached from within the instance. (The
protocol of AWS's own data channel is another: only the stand-in `plugin` speaks this one.)
"""

import contextlib
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.local_aws.agents import Agents
from ops.local_aws.instances import Machine
from ops.local_aws.wire import Call, Refused

_DOCUMENTS = {
    "AWS-StartPortForwardingSession": "localhost",
    "AWS-StartPortForwardingSessionToRemoteHost": "",
}


@dataclass
class Session:
    """One session, until it is terminated or its instance has gone."""

    id: str
    token: str
    machine: Machine
    host: str
    port: int
    owner: str
    document: str
    started: datetime
    over: threading.Event = field(default_factory=threading.Event)


class Sessions:
    """The sessions of a region, with the listening end of their data channel."""

    def __init__(self, agents: Agents, gateway: str) -> None:
        self._agents = agents
        self._sessions: dict[str, Session] = {}
        self._listening = socket.create_server((gateway, 0))
        self._address = f"ws://{gateway}:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def start_session(self, call: Call) -> dict[str, Any]:
        asked = call.parameters
        target, document = asked["Target"], asked.get("DocumentName", "")
        machine = self._agents.online(target)
        if machine is None:
            raise Refused("TargetNotConnected", f"{target} is not connected.")
        if document not in _DOCUMENTS:
            raise Refused("InvalidDocument", f"Document {document} does not exist here.")
        given = asked.get("Parameters") or {}
        [host] = given.get("host") or [_DOCUMENTS[document]]
        [port] = given.get("portNumber") or ["80"]
        if not host or not port.isdigit():
            raise Refused("ValidationException", "Missing or invalid parameters of the document.")
        assert call.caller is not None
        name = call.caller.arn.rpartition("/")[2]
        session = Session(
            id=f"{name}-{secrets.token_hex(9)[:17]}",
            token=secrets.token_urlsafe(48),
            machine=machine,
            host="127.0.0.1" if host == "localhost" else host,
            port=int(port),
            owner=call.caller.arn,
            document=document,
            started=datetime.now(UTC).replace(tzinfo=None),
        )
        self._sessions[session.id] = session
        url = f"{self._address}/v1/data-channel/{session.id}?role=publish_subscribe"
        return {"SessionId": session.id, "TokenValue": session.token, "StreamUrl": url}

    def terminate_session(self, call: Call) -> dict[str, Any]:
        identity = call.parameters["SessionId"]
        if identity not in self._sessions:
            raise Refused("DoesNotExistException", f"Session {identity} does not exist.")
        self._sessions[identity].over.set()
        return {"SessionId": identity}

    def describe_sessions(self, call: Call) -> dict[str, Any]:
        active = call.parameters.get("State") == "Active"
        shown = [
            {
                "SessionId": one.id,
                "Target": one.machine.id,
                "Status": "Terminated" if self._is_over(one) else "Connected",
                "StartDate": one.started,
                "Owner": one.owner,
                "DocumentName": one.document,
            }
            for one in self._sessions.values()
            if self._is_over(one) != active
        ]
        return {"Sessions": shown}

    def _is_over(self, session: Session) -> bool:
        return session.over.is_set() or session.machine.ended

    def close(self) -> None:
        for session in self._sessions.values():
            session.over.set()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                laptop, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(laptop,), daemon=True).start()

    def _serve(self, laptop: socket.socket) -> None:
        """One connection: "control" tells of the session's end, "data" carries bytes."""
        with laptop:
            laptop.settimeout(10)
            purpose, _, token = _line(laptop).partition(" ")
            laptop.settimeout(None)
            session = next((o for o in self._sessions.values() if o.token == token), None)
            if session is None or self._is_over(session):
                return
            if purpose == "control":
                while not self._is_over(session) and not _has_hung_up(laptop):
                    session.over.wait(0.1)
                session.over.set()
                return
            try:
                instance = session.machine.connect(session.host, session.port)
            except OSError:
                return
            with instance:
                self._join(session, laptop, instance)

    def _join(self, session: Session, laptop: socket.socket, instance: socket.socket) -> None:
        def end_with_session() -> None:
            while not self._is_over(session) and not done.wait(0.1):
                pass
            for one in (laptop, instance):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

        done = threading.Event()
        watch = threading.Thread(target=end_with_session, daemon=True)
        back = threading.Thread(target=_pump, args=(instance, laptop, session.machine), daemon=True)
        watch.start()
        back.start()
        _pump(laptop, instance, session.machine)
        back.join()
        done.set()
        watch.join()


def _pump(source: socket.socket, sink: socket.socket, machine: Machine) -> None:
    """Carry bytes until there are no more; while the instance is cut off, nothing moves."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 16):
            while machine.cut and not machine.ended:
                time.sleep(0.05)
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _line(connection: socket.socket) -> str:
    text = b""
    with contextlib.suppress(OSError):
        while not text.endswith(b"\n") and len(text) < 4096:
            more = connection.recv(1)
            if not more:
                break
            text += more
    return text.decode("ascii", "replace").strip()


def _has_hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
