"""A worker as a process of its own, as both examples start it: `cicely worker APP` and nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parent.parent
_STOP_S = 20
_LOOK_S = 0.02
_STARTED = b" processes of "


class Worker:
    """`with Worker("examples.embedding_index.app:app", ...)`: it stops when the block is left."""

    def __init__(self, app: str, *options: str, log: Path) -> None:
        # One thread for NumPy's algebra: processes are what spreads the work here, and an app that
        # starts no threads when it is imported can be forked instead of imported by each child.
        environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **os.environ}
        with log.open("ab") as output:
            before_bytes = output.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cicely", "worker", app, *options],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._log = log
        self._await_first_words(before_bytes)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await_first_words(self, before_bytes: int) -> None:
        """Return when it has imported the app. Ends the program with the worker's words where it cannot."""
        while _STARTED not in self._log.read_bytes()[before_bytes:]:
            if self._process.poll() is not None:
                said = self._log.read_bytes()[before_bytes:].decode(errors="replace")
                sys.exit(f"the worker did not start: {said}")
            time.sleep(_LOOK_S)

    def kill(self) -> None:
        """SIGKILL: it has no time to say goodbye."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM: running jobs may end, what has not started goes back."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
