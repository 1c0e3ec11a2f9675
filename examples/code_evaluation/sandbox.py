"""Programs in processes of their own, under limits: a nursery, and the way to it from any thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

LANGUAGES = ("python", "bash")
MAX_PROCESSES = 32
_NURSERY = Path(__file__).with_name("nursery.py")
#: How long an answer may take beyond the program's own time.
_PATIENCE_S = 20.0
#: A cancellation reaches a thread between two waits, none of which is longer.
WAIT_S = 0.2


class Program(msgspec.Struct, frozen=True):
    """A program and what it may use."""

    language: str
    code: str
    timeout_s: float = 10.0
    memory_bytes: int = 128 << 20
    max_processes: int = MAX_PROCESSES

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise ValueError(
                f"the language {self.language} is not known here; there are {', '.join(LANGUAGES)}"
            )
        if min(self.timeout_s, self.memory_bytes, self.max_processes) <= 0:
            raise ValueError("timeout_s, memory_bytes and max_processes must be above 0")


class Ran(msgspec.Struct, frozen=True):
    """What came of a program. `ended`: finished, killed, or the limit: timeout, memory, processes."""

    ended: str
    exit_code: int
    output: str
    duration_s: float
    peak_bytes: int
    processes: int


class SandboxGone(ConnectionError):
    """The nursery died while the program ran: it says nothing of the program."""


class Sandbox:
    """A nursery in a process of its own, started when it is first needed and again when it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._nursery: subprocess.Popen[bytes] | None = None
        self._asked: dict[int, Future[Ran]] = {}

    def run(self, program: Program) -> Ran:
        """Run a program to its end. Raises SandboxGone; may be called by many threads."""
        answer: Future[Ran] = Future()
        with self._lock:
            number = next(self._numbers)
            nursery = self._started()
            self._asked[number] = answer
            request = msgspec.structs.asdict(program) | {"id": number}
            assert nursery.stdin is not None
            try:
                nursery.stdin.write(json.dumps(request).encode() + b"\n")
                nursery.stdin.flush()
            except OSError as error:
                del self._asked[number]
                raise SandboxGone(f"the nursery takes no programs: {error}") from error
        return _awaited(answer, within_s=program.timeout_s + _PATIENCE_S)

    def _started(self) -> subprocess.Popen[bytes]:
        nursery = self._nursery
        if nursery is None or nursery.poll() is not None:
            nursery = self._nursery = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_NURSERY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={"PATH": os.environ.get("PATH", "")},
            )
            # Its own: what is asked of the next one outlives this one's death.
            self._asked = {}
            threading.Thread(target=self._hear, args=(nursery, self._asked), daemon=True).start()
        return nursery

    def _hear(self, nursery: subprocess.Popen[bytes], asked: dict[int, Future[Ran]]) -> None:
        assert nursery.stdout is not None
        for line in nursery.stdout:
            said: dict[str, Any] = json.loads(line)
            waiting = asked.pop(said["id"], None)
            if waiting is not None:
                waiting.set_result(msgspec.convert(said, Ran))
        with self._lock:
            left = list(asked.values())
            asked.clear()
        for waiting in left:
            waiting.set_exception(SandboxGone("the nursery died while the program ran"))

    def close(self) -> None:
        """End the nursery and all that runs in it."""
        nursery = self._nursery
        if nursery is not None and nursery.stdin is not None:
            nursery.stdin.close()
            nursery.wait()


def _awaited(answer: Future[Ran], *, within_s: float) -> Ran:
    """Return the answer. Raises SandboxGone."""
    give_up_at = time.monotonic() + within_s
    while time.monotonic() < give_up_at:
        with suppress(TimeoutError):
            return answer.result(WAIT_S)
    raise SandboxGone(f"no answer within {within_s:g} s")


_sandboxes: dict[int, Sandbox] = {}


def of_this_process() -> Sandbox:
    """Return the sandbox of this process; a forked child gets one of its own."""
    return _sandboxes.setdefault(os.getpid(), Sandbox())
