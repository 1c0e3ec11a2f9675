"""Loops in processes of their own, so that what is measured shares no interpreter with the meter.

A loop's process says "ready", waits for a line, works, and prints its answer as one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import msgspec

from benchmarks.clock import boottime

#: What a loop may take beyond its own limit: an interpreter's start, a file's last checkpoint.
SPARE_S = 30.0

T = TypeVar("T")


class Moved(msgspec.Struct, frozen=True):
    """Jobs that a loop moved, and between which instants (CLOCK_BOOTTIME)."""

    jobs: int
    began_at: float
    ended_at: float

    @property
    def per_s(self) -> float:
        """Jobs per second."""
        return self.jobs / max(1e-9, self.ended_at - self.began_at)


def together(answers: Sequence[Moved]) -> Moved:
    """Return what several processes moved that ran at the same time."""
    began_at = min(answer.began_at for answer in answers)
    ended_at = max(answer.ended_at for answer in answers)
    return Moved(sum(answer.jobs for answer in answers), began_at, ended_at)


def summed(slices: Sequence[Moved]) -> float:
    """Return the jobs per second of several runs that came one after the other."""
    return sum(one.jobs for one in slices) / sum(one.ended_at - one.began_at for one in slices)


# --- in the loop's process ------------------------------------------------------------------------
def wait_for_go() -> None:
    """Say "ready" and wait until all are."""
    print("ready", flush=True)
    sys.stdin.readline()


def answer(value: object) -> None:
    """Print the loop's answer."""
    print(json.dumps(msgspec.to_builtins(value)), flush=True)


def timed(work: Callable[[], int]) -> Moved:
    """Return how many jobs `work` moved, and when."""
    began_at = boottime()
    jobs = work()
    return Moved(jobs, began_at, boottime())


# --- in the meter ---------------------------------------------------------------------------------
class Run:
    """One loop in a process of its own."""

    def __init__(
        self,
        module: str,
        *words: object,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
        log: IO[str] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            [python, "-m", module, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._what = f"{module} {' '.join(map(str, words))}"

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Return when the loop waits for its start."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"`{self._what}` did not come up")

    def go(self) -> None:
        """Start the loop."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    @contextmanager
    def looking_on(self) -> Iterator[None]:
        """Start the loop before something is done, and leave nothing of it behind."""
        self.wait_until_ready()
        self.go()
        try:
            yield
        finally:
            self.kill()

    def result(self, limit_s: float) -> Any:
        """Return the loop's answer."""
        try:
            printed, _ = self._process.communicate(timeout=limit_s + SPARE_S)
        finally:
            self.kill()
        if self._process.returncode:
            raise RuntimeError(f"`{self._what}` ended with {self._process.returncode}")
        return json.loads(printed)

    def kill(self) -> None:
        """End it, whatever it does. Idempotent."""
        self._process.kill()
        self._process.wait()


def results(running: Sequence[Run], *, limit_s: float) -> list[Any]:
    """Start all loops at once, when all are ready, and return their answers."""
    try:
        for run in running:
            run.wait_until_ready()
        for run in running:
            run.go()
        return [run.result(limit_s) for run in running]
    finally:
        for run in running:
            run.kill()


def moved(running: Sequence[Run], *, limit_s: float) -> Moved:
    """Start loops that move jobs together, and return what they moved."""
    answers = results(running, limit_s=limit_s)
    return together([msgspec.convert(a, Moved) for a in answers])
