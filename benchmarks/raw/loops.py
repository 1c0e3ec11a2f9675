"""The raw loops as the meter calls them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.clock import boottime
from benchmarks.processes import Memory, children_of, memory_of
from benchmarks.raw.stores import PLACE_VARIABLE, store_at
from benchmarks.runs import Moved, Run, moved, results

PAGE = 10_000
BODY = b"\x92\x90\x80"


def filled(place: str, *, ready: int = 0, scheduled: int = 0) -> str:
    """Make a raw queue with so many jobs in it, in place of the last one, and return its place."""
    store = store_at(place)
    store.create()
    for first in range(0, ready, PAGE):
        store.enqueue([BODY] * min(PAGE, ready - first))
    for first in range(0, scheduled, PAGE):
        store.schedule(min(PAGE, scheduled - first), body=BODY, first=first)
    store.close()
    return place


def move(loop: str, place: str, *, count: int, processes: int = 1, limit_s: float = 20.0) -> Moved:
    """Run `loop` in so many processes, which share `count` between them."""
    share = count // processes
    running = [Run("benchmarks.raw", loop, share, limit_s, environment=at(place)) for _ in range(processes)]
    return moved(running, limit_s=limit_s)


def latencies_s(place: str, *, count: int, limit_s: float = 20.0) -> list[float]:
    """Return the seconds from before an enqueue to the start of what was enqueued."""
    started, sent = results(
        [
            Run("benchmarks.raw.latency", "start", count, limit_s, environment=at(place)),
            Run("benchmarks.raw.latency", "send", count, limit_s, environment=at(place)),
        ],
        limit_s=limit_s,
    )
    return [start - send for send, start in zip(sent, started, strict=False)]


def at(place: str) -> dict[str, str]:
    """Return what tells a loop's process where its queue is."""
    return {PLACE_VARIABLE: place}


@contextmanager
def family(place: str, children: int) -> Iterator[subprocess.Popen[str]]:
    """Run bare children of one parent."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.raw.family", str(children)],
        env={**os.environ, **at(place)},
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


def memory(place: str, children: int) -> Memory:
    """Return what a bare parent and its children weigh."""
    with family(place, children) as process:
        return memory_of(process.pid, children=children_of(process.pid))


def respawns_s(place: str, *, count: int) -> list[float]:
    """Return the seconds from a child's SIGKILL until its bare successor could run a job."""
    taken: list[float] = []
    with family(place, 2) as process:
        assert process.stdout is not None
        for _ in range(count):
            time.sleep(0.05)
            killed_at = boottime()
            os.kill(children_of(process.pid)[0], signal.SIGKILL)
            taken.append(float(process.stdout.readline()) - killed_at)
    return taken
