"""A stand-in for session-manager-plugin: forwards a local port through a session.

Takes the real one's arguments: the answer of StartSession as JSON (or the name of the environment
variable that holds it), region, "StartSession", profile, what StartSession was asked for as JSON,
and the endpoint. Says what the real one says. Needs nothing but Python.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
from typing import Any
from urllib.parse import urlsplit


def main(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print("1.2.0.0")
        return 0
    if len(arguments) < 5 or arguments[2] != "StartSession":
        print("\nThe Session Manager plugin was installed successfully. Use the AWS CLI to start ")
        print("a session.\n")
        return 0
    given = arguments[0]
    answer: dict[str, Any] = json.loads(given if given.startswith("{") else os.environ[given])
    asked: dict[str, Any] = json.loads(arguments[4])
    session, token = answer["SessionId"], answer["TokenValue"]
    url = urlsplit(answer["StreamUrl"])
    there = (url.hostname or "", url.port or 0)
    [local] = asked.get("Parameters", {}).get("localPortNumber") or ["0"]

    print(f"\nStarting session with SessionId: {session}", flush=True)
    try:
        control = _open(there, "control", token)
    except OSError as error:
        print(f"\nSessionId: {session} : Unable to open the data channel: {error}", flush=True)
        return 255
    try:
        listening = socket.create_server(("127.0.0.1", int(local)))
    except OSError:
        print(f"listen tcp 127.0.0.1:{local}: bind: address already in use", flush=True)
        return 255
    port = listening.getsockname()[1]
    print(f"Port {port} opened for sessionId {session}.\nWaiting for connections...", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _leave(session))
    while True:
        ready, _, _ = select.select([listening, control], [], [])
        if control in ready:
            print(f"\nSessionId: {session} : Session was terminated.", flush=True)
            return 255
        laptop, _ = listening.accept()
        print(f"\nConnection accepted for session [{session}]", flush=True)
        threading.Thread(target=_forward, args=(laptop, there, token), daemon=True).start()


def _leave(session: str) -> None:
    print(f"\nTerminate signal received, exiting.\n\nExiting session with sessionId: {session}.")
    sys.stdout.flush()
    os._exit(0)  # the data channel closes with the process, and that ends the session


def _open(there: tuple[str, int], purpose: str, token: str) -> socket.socket:
    connection = socket.create_connection(there, 10)
    connection.settimeout(None)
    connection.sendall(f"{purpose} {token}\n".encode())
    return connection


def _forward(laptop: socket.socket, there: tuple[str, int], token: str) -> None:
    with laptop, contextlib.suppress(OSError), _open(there, "data", token) as instance:
        back = threading.Thread(target=_pump, args=(instance, laptop), daemon=True)
        back.start()
        _pump(laptop, instance)
        back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 16):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
