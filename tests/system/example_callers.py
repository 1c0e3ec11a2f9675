"""The service in this process, in virtual time, its callers, and two servers that they may meet."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from examples.code_evaluation import sandbox
from examples.code_evaluation.app import app
from examples.code_evaluation.gateway import gateway
from examples.code_evaluation.places import EXECUTORS_VARIABLE
from starlette.testclient import TestClient

from cicely.testing import inline


@pytest.fixture
def world(monkeypatch):
    monkeypatch.delenv(EXECUTORS_VARIABLE, raising=False)
    with inline(app) as world:
        yield world
    sandbox.of_this_process().close()


@pytest.fixture
def client(world):
    return TestClient(gateway)


def submit(client, eval_id="e1", code="print('done')", **more):
    return client.post("/evaluations", json={"eval_id": eval_id, "code": code, **more})


def ids(answer):
    return [one["eval_id"] for one in answer.json()["evaluations"]]


class BrokenServer:
    """Takes each connection, and breaks it off where an answer is expected."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._break, daemon=True).start()

    def _break(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.recv(100)
            connection.close()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Webhook:
    """Keeps what it is told."""

    def __init__(self) -> None:
        bodies = self.bodies = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_given):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
