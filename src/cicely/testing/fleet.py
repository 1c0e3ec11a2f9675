"""Real workers as subprocesses: start them, look at them, and do to them what machines do.

Used by the torture and by tests with real kills. Everything here names processes by the pids that
it started or found below them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from cicely.worker.options import WorkerOptions
from cicely.worker.processes import children, descendants, is_alive, kill_marked, mark_of, start_time

ZYGOTE: Final = "cicely-zygote"
CHILD: Final = "cicely-child"
ATTEMPT: Final = "cicely-attempt"

#: Starts a worker in a pid namespace of its own, as a container does; only root may.
ELSEWHERE: Final = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

_LOOK_S: Final = 0.01
_STOP_S: Final = 15.0

T = TypeVar("T")


class NotInTime(AssertionError):
    """What was waited for did not happen within its bound."""


def wait_for(condition: Callable[[], T], *, within_s: float, what: str = "") -> T:
    """Return the first true answer of `condition`. Raises NotInTime."""
    give_up_at = time.monotonic() + within_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > give_up_at:
            raise NotInTime(f"not within {within_s:g} s: {what or condition}")
        time.sleep(_LOOK_S)


class WorkerProcess:
    """One worker, started with its options; `log` is what it writes, its own words and its logs.

    `inside` is a program that starts it in surroundings of its own, such as ELSEWHERE.
    """

    def __init__(
        self,
        options: WorkerOptions,
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        inside: Sequence[str] = (),
    ) -> None:
        self.log = log
        self._mark = ""
        self._is_inside = bool(inside)
        spec = msgspec.json.encode(options).decode()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*inside, sys.executable, "-m", "cicely.testing.worker_process", spec],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        below = children(self._process.pid) if self._is_inside else []
        return below[0] if below else self._process.pid

    @property
    def said(self) -> str:
        """Everything that it wrote so far."""
        return self.log.read_text(errors="replace")

    def await_children(self, count: int, *, within_s: float = 20.0) -> list[int]:
        """Return the pids of `count` children once so many live."""

        def enough() -> list[int]:
            if self._process.poll() is not None:
                raise NotInTime(f"the worker ended with {self._process.returncode}: {self.said}")
            found = self.children()
            return found if len(found) >= count else []

        return wait_for(enough, within_s=within_s, what=f"{count} children; it said: {self.said}")

    def children(self) -> list[int]:
        """Return the pids of the children that live now, oldest first."""
        return self._below(CHILD)

    def attempts(self) -> list[int]:
        """Return the pids of the isolated attempts that live now."""
        return self._below(ATTEMPT)

    def zygote(self) -> int:
        """Return the zygote's pid, 0 where there is none."""
        found = self._below(ZYGOTE)
        return found[0] if found else 0

    def tree(self) -> list[int]:
        """Return every process below the supervisor."""
        return descendants(self.pid)

    def _below(self, name: str) -> list[int]:
        found = [pid for pid in descendants(self.pid) if _name_of(pid) == name]
        for pid in found:
            self._mark = self._mark or mark_of(pid) or ""
        return sorted(found, key=lambda pid: start_time(pid) or 0)

    # --- what can happen to it ------------------------------------------------------------------
    def kill(self) -> None:
        """SIGKILL the supervisor alone; what it leaves behind is what is being tested."""
        self._below(CHILD)
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to stop, as a service manager does."""
        _send(self.pid, signal.SIGTERM)

    def wait(self, *, within_s: float) -> int:
        """Return its exit code."""
        return self._process.wait(within_s)

    @property
    def is_running(self) -> bool:
        """Whether the supervisor has not ended."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it and everything of it, whatever state it is in."""
        tree = self.tree() if self.is_running else []
        for pid in [self.pid, *tree]:
            _send(pid, signal.SIGCONT)
        if self.is_running:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
            self._process.kill()
            self._process.wait()
        if self._mark:
            kill_marked(self._mark)


def can_be_elsewhere() -> bool:
    """Return whether this process may start workers in a pid namespace of their own."""
    try:
        return subprocess.run([*ELSEWHERE, "true"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def stop(pids: Iterable[int]) -> None:
    """SIGSTOP processes, in this order."""
    for pid in pids:
        _send(pid, signal.SIGSTOP)


def go_on(pids: Iterable[int]) -> None:
    """SIGCONT processes, in this order."""
    for pid in pids:
        _send(pid, signal.SIGCONT)


def kill(pid: int) -> None:
    """SIGKILL one process."""
    _send(pid, signal.SIGKILL)


def are_gone(pids: Mapping[int, int]) -> bool:
    """Return whether none of these processes, given with their start times, lives."""
    return not any(is_alive(pid, started) for pid, started in pids.items())


def known(pids: Iterable[int]) -> dict[int, int]:
    """Return pids with their start times, for `are_gone`; those that are gone already are left out."""
    return {pid: started for pid in pids if (started := start_time(pid)) is not None}


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
