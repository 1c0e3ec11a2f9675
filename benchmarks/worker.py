"""A worker as the meter sees it: started, looked at and stopped from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType

import psutil

from benchmarks.processes import tree_of

START_S = 30.0
STOP_S = 20.0


class Worker:
    """`with Worker(url, processes=2) as worker:` runs one, and leaves nothing of it behind."""

    def __init__(self, url: str, *, processes: int, environment: Mapping[str, str] | None = None) -> None:
        self._words = [sys.executable, "-m", "benchmarks.serve", str(processes)]
        self._environment = {**os.environ, "CICELY_URL": url, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The supervisor's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """The ids of all its processes."""
        return tree_of(self.pid)

    @property
    def children(self) -> list[int]:
        """The ids of the processes that run jobs: those that the zygote forked."""
        [zygote] = psutil.Process(self.pid).children()
        return [child.pid for child in zygote.children()]

    def wait_until_up(self, processes: int) -> None:
        """Return when so many processes run jobs: what came before is a start, not a job."""
        give_up_at = time.monotonic() + START_S
        while time.monotonic() < give_up_at:
            with contextlib.suppress(ValueError, psutil.Error):
                if len(self.children) >= processes:
                    return
            time.sleep(0.001)
        raise RuntimeError(f"a worker of {processes} processes did not start within {START_S:g} s")

    def __enter__(self) -> Worker:
        """Start it; it may not be ready yet."""
        self._process = subprocess.Popen(self._words, env=self._environment)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it, and kill what does not stop."""
        assert self._process is not None
        left = [psutil.Process(pid) for pid in self.pids] if self._process.poll() is None else []
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            print("a worker did not stop; it is killed", file=sys.stderr)
        for process in left:
            if process.is_running():
                process.kill()
        self._process.wait()
