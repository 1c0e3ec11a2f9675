"""The service's processes: executors, workers and a gateway. Each can be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from examples.code_evaluation.moving import BOOK_VARIABLE, OLD_VARIABLE
from examples.code_evaluation.places import EXECUTORS_VARIABLE
from examples.code_evaluation.stage import lenient
from examples.worker import ROOT, Worker

APP = "examples.code_evaluation.app:app"
GATEWAY = "examples.code_evaluation.gateway:gateway"
FIFO = "examples.code_evaluation.fifo"
#: A worker that fell silent is given up after this.
LEASE = "3s"
_STOP_S = 10.0
_START_S = 30.0
_LOOK_S = 0.02


class Server:
    """A process that answers HTTP on a port of its own, also after it was killed and started again."""

    def __init__(self, words: Sequence[str], *, health: str, log: Path, port: int = 0) -> None:
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._words = [word.format(port=self.port) for word in words]
        self._health = self.url + health
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start the process; `await_health` says when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._words],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def await_health(self) -> None:
        """Return when it answers. Ends the program with its words where it does not."""
        give_up_at = time.monotonic() + lenient(_START_S)
        while not _answers(self._health):
            if self._process is None or self._process.poll() is not None or time.monotonic() > give_up_at:
                sys.exit(f"{' '.join(self._words)} did not start: {self._log.read_text()[-2_000:]}")
            time.sleep(_LOOK_S)

    def start(self) -> None:
        """Start it and return when it answers."""
        self.begin()
        self.await_health()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what does not heed it."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Service:
    """`with Service(folder) as service:` everything runs; it stops when the block is left.

    The environment must say where jobs are kept (CICELY_URL). Without executors, programs run in the
    workers.
    """

    def __init__(
        self,
        folder: Path,
        *,
        executors: int = 2,
        workers: int = 1,
        processes: int | str = 2,
        threads: int = 4,
        gateways: int = 1,
        port: int = 0,
        old: bool = False,
    ) -> None:
        self.folder = folder
        self.executors = [self._executor(name) for name in "ab"[:executors]]
        self.gateways = [self._gateway(number, port) for number in range(gateways)]
        self.old = [Server([FIFO, "--port", "{port}"], health="/health", log=folder / "old.log")] * old
        self.workers: list[Worker] = []
        self._wanted = workers
        self._options = (f"--processes={processes}", f"--threads={threads}", f"--lease={LEASE}")
        self._before = dict(os.environ)
        os.environ |= self._told()

    def _told(self) -> dict[str, str]:
        """Return what all processes are told by their environment: where the others are, how to log."""
        told = {EXECUTORS_VARIABLE: ",".join(one.url for one in self.executors), "CICELY_LOG": "json"}
        if self.old:
            told |= {OLD_VARIABLE: self.old[0].url, BOOK_VARIABLE: str(self.folder / "book")}
        return told

    def _executor(self, name: str) -> Server:
        words = ["examples.code_evaluation.executor", "--port", "{port}"]
        return Server(words, health="/health", log=self.folder / f"executor-{name}.log")

    def _gateway(self, number: int, port: int) -> Server:
        words = ["uvicorn", GATEWAY, "--port", "{port}", "--no-access-log", "--log-level", "warning"]
        return Server(words, health="/health", log=self.folder / f"gateway-{number}.log", port=port)

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return self.gateways[0].url

    def __enter__(self) -> Service:
        try:
            servers = [*self.old, *self.executors, *self.gateways]
            for server in servers:
                server.begin()
            for _ in range(self._wanted):
                self.hire()
            for server in servers:
                server.await_health()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def hire(self) -> Worker:
        """Start another worker."""
        worker = Worker(APP, *self._options, log=self.folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        return worker

    def stop(self) -> None:
        """Stop everything, first who accepts and runs jobs."""
        for server in self.gateways:
            server.stop()
        for worker in self.workers:
            worker.stop()
        for server in (*self.executors, *self.old):
            server.stop()
        for variable in self._told():
            os.environ.pop(variable, None)
            if variable in self._before:
                os.environ[variable] = self._before[variable]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
