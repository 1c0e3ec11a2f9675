"""An executor: `POST /run` runs a program in a process of its own and answers with what came of it.

`python -m examples.code_evaluation.executor --port 8101`. SIGTERM stops it, with all that runs in it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from examples.code_evaluation.sandbox import Program, Ran, Sandbox, SandboxGone

#: Programs that run at once; whoever comes then is told to come again.
SLOTS = 16
MAX_BODY_BYTES = 1 << 20


class Executor:
    """A sandbox, and how many may be in it."""

    def __init__(self) -> None:
        self.sandbox = Sandbox()
        self.running = 0
        self.done = 0
        self._lock = threading.Lock()

    def run(self, program: Program) -> Ran | None:
        """Run a program; None where all slots are taken."""
        with self._lock:
            if self.running >= SLOTS:
                return None
            self.running += 1
        try:
            return self.sandbox.run(program)
        finally:
            with self._lock:
                self.running -= 1
                self.done += 1


def answer(executor: Executor, body: bytes) -> tuple[int, Any]:
    """Return the status and the answer to a request to run a program."""
    try:
        ran = executor.run(msgspec.json.decode(body, type=Program))
    except msgspec.DecodeError as error:
        return 422, {"error": str(error)}
    except SandboxGone as error:
        return 502, {"error": str(error)}
    return (503, {"error": "all slots are taken"}) if ran is None else (200, ran)


def handler(executor: Executor) -> type[BaseHTTPRequestHandler]:
    """Return what answers requests."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer(200, {"running": executor.running, "done": executor.done})

        def do_POST(self) -> None:
            said = self.headers.get("Content-Length", "0")
            length = int(said) if said.isdecimal() else MAX_BODY_BYTES + 1
            if self.path != "/run" or length > MAX_BODY_BYTES:
                self.close_connection = True
                self._answer(404, {"error": "POST /run, up to 1 MB"})
                return
            self._answer(*answer(executor, self.rfile.read(length)))

        def _answer(self, status: int, what: Any) -> None:
            body = msgspec.json.encode(what)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_given: object) -> None:
            """Say nothing about each request."""

    return Handler


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.code_evaluation.executor", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    executor = Executor()
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", port), handler(executor))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        executor.sandbox.close()


if __name__ == "__main__":
    main()
