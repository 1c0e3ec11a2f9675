"""The raw loops as the meter calls them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.clock import boottime
from benchmarks.processes import Memory, children_of, memory_of
from benchmarks.raw.sqlite.store import Store
from benchmarks.runs import Moved, Run, moved, results

PAGE = 10_000
BODY = b"\x92\x90\x80"


def new_file(folder: Path, *, ready: int = 0, scheduled: int = 0) -> Path:
    """Make a raw queue with so many jobs in it, in place of the last one."""
    for old in folder.glob("raw.db*"):
        old.unlink()
    path = folder / "raw.db"
    store = Store(path)
    store.create()
    for first in range(0, ready, PAGE):
        store.enqueue([BODY] * min(PAGE, ready - first))
    for first in range(0, scheduled, PAGE):
        store.schedule(min(PAGE, scheduled - first), body=BODY, first=first)
    store.close()
    return path


def move(loop: str, path: Path, *, count: int, processes: int = 1, limit_s: float = 20.0) -> Moved:
    """Run `loop` in so many processes, which share `count` between them."""
    share = count // processes
    running = [Run("benchmarks.raw.sqlite", loop, path, share, limit_s) for _ in range(processes)]
    return moved(running, limit_s=limit_s)


def latencies_s(path: Path, *, count: int, limit_s: float = 20.0) -> list[float]:
    """Return the seconds from before an enqueue to the start of what was enqueued."""
    started, sent = results(
        [
            Run("benchmarks.raw.sqlite.latency", "start", path, count, limit_s),
            Run("benchmarks.raw.sqlite.latency", "send", path, count, limit_s),
        ],
        limit_s=limit_s,
    )
    return [start - send for send, start in zip(sent, started, strict=False)]


@contextmanager
def family(path: Path, children: int) -> Iterator[subprocess.Popen[str]]:
    """Run bare children of one parent."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.raw.sqlite.family", str(path), str(children)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for _ in range(children + 1):
            process.stdout.readline()
        yield process
    finally:
        process.communicate(timeout=10)


def memory(path: Path, children: int) -> Memory:
    """Return what a bare parent and its children weigh."""
    with family(path, children) as process:
        return memory_of(process.pid, children=children_of(process.pid))


def respawns_s(path: Path, *, count: int) -> list[float]:
    """Return the seconds from a child's SIGKILL until its bare successor could run a job."""
    taken: list[float] = []
    with family(path, 2) as process:
        assert process.stdout is not None
        for _ in range(count):
            time.sleep(0.05)
            killed_at = boottime()
            os.kill(children_of(process.pid)[0], signal.SIGKILL)
            taken.append(float(process.stdout.readline()) - killed_at)
    return taken
