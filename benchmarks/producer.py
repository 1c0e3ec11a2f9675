"""Whoever asks for jobs: `python -m benchmarks.producer WORK COUNT LIMIT_S`, engine by CICELY_URL.

Each work waits for its start, ends after LIMIT_S seconds at the latest and prints its answer.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec

from benchmarks.apps import app, burn, limited, noop, shut, stamp, stamps
from benchmarks.clock import boottime
from benchmarks.runs import Moved, answer, timed, wait_for_go
from cicely import State, chain, chord

PAGE = 10_000
LOOK_S = 0.01
QUEUE = "default"
LANES = 1_000


class Latency(msgspec.Struct, frozen=True):
    """Seconds from before an enqueue to its job's start, and to its result in the producer's hands."""

    start_s: float
    result_s: float


def main() -> None:
    """Do one piece of work."""
    name, count, limit_s = sys.argv[1:]
    app.engine.open()
    wait_for_go()
    answer(WORKS[name](int(count), boottime() + float(limit_s)))


def single(count: int, until: float) -> Moved:
    """Enqueue one job per call."""
    delay = noop.delay

    def work() -> int:
        for moved in range(count):
            if boottime() >= until:
                return moved
            delay()
        return count

    return timed(work)


def bulk(count: int, until: float) -> Moved:
    """Enqueue by `delay_many`."""

    def work() -> int:
        for moved in range(0, count, PAGE):
            if boottime() >= until:
                return moved
            noop.delay_many(() for _ in range(min(PAGE, count - moved)))
        return count

    return timed(work)


def in_lanes(count: int, until: float) -> Moved:
    """Enqueue jobs under a limit, each in one of a thousand lanes."""

    def work() -> int:
        for moved in range(0, count, PAGE):
            if boottime() >= until:
                return moved
            limited.delay_many((user % LANES,) for user in range(moved, min(count, moved + PAGE)))
        return count

    return timed(work)


def blocked(count: int, until: float) -> Moved:
    """Enqueue jobs of which a limit lets one pass."""

    def work() -> int:
        for moved in range(0, count, PAGE):
            if boottime() >= until:
                return moved
            shut.delay_many(() for _ in range(min(PAGE, count - moved)))
        return count

    return timed(work)


def burns(count: int, until: float) -> Moved:
    """Enqueue jobs of a millisecond each."""

    def work() -> int:
        burn.delay_many(() for _ in range(count))
        return count

    return timed(work)


def schedule(count: int, until: float) -> Moved:
    """Enqueue jobs that are due in an hour."""
    later = noop.options(countdown=3600)

    def work() -> int:
        for moved in range(0, count, PAGE):
            if boottime() >= until:
                return moved
            later.delay_many(() for _ in range(min(PAGE, count - moved)))
        return count

    return timed(work)


def watch(count: int, until: float) -> Moved:
    """Look on from the first job that ends until `count` more have."""
    before = done = _succeeded()
    began_at = now = boottime()
    began = before
    while done - before < count and now < until:
        time.sleep(LOOK_S)
        done, now = _succeeded(), boottime()
        if began == before:
            began, began_at = done, now
    return Moved(done - began, began_at, now)


def _succeeded() -> int:
    return _in_state(State.SUCCEEDED)


def waiting(_count: int, _until: float) -> int:
    """Return how many jobs are ready."""
    return _in_state(State.READY)


def pause(_count: int, _until: float) -> None:
    """Let nothing start."""
    app.pause_queue(QUEUE)


def resume(_count: int, _until: float) -> None:
    """Let it start again."""
    app.resume_queue(QUEUE)


def _in_state(state: State) -> int:
    return sum(queue.counts.get(state, 0) for queue in app.engine.queues())


def chord_of(count: int, until: float) -> Moved:
    """Enqueue one chord of so many members."""

    def work() -> int:
        chord((noop.si() for _ in range(count)), noop.si()).delay()
        return count

    return timed(work)


def chains_of_ten(count: int, until: float) -> Moved:
    """Enqueue chains of ten jobs each, `count` jobs in all."""

    def work() -> int:
        for moved in range(0, count, 10):
            if boottime() >= until:
                return moved
            chain(*(noop.si() for _ in range(10))).delay()
        return count

    return timed(work)


def steps(count: int, until: float) -> list[float]:
    """Run one chain on an idle worker; return the seconds between the starts of its jobs."""
    first, *others = [stamps.s([]), *(stamps.s() for _ in range(count))]
    starts = chain(first, *others).delay().get(timeout=until - boottime())
    return [after - before for before, after in pairwise(starts)]


def latency(count: int, until: float) -> list[Latency]:
    """Enqueue one job at a time for an idle worker, and wait for its result."""
    seen: list[Latency] = []
    while len(seen) < count and boottime() < until:
        time.sleep(random.uniform(0.002, 0.012))
        sent_at = boottime()
        started_at = stamp.delay().get(timeout=10)
        seen.append(Latency(started_at - sent_at, boottime() - sent_at))
    return seen


def warm(count: int, until: float) -> int:
    """Have every child run a few jobs."""
    jobs = noop.delay_many(() for _ in range(count))
    for job in jobs:
        job.get(timeout=max(0.1, until - boottime()))
    return count


WORKS: dict[str, Callable[[int, float], Any]] = {
    work.__name__: work
    for work in (
        single, bulk, in_lanes, blocked, burns, schedule, watch, waiting, pause, resume, latency, warm,
        chord_of, chains_of_ten, steps,
    )
}  # fmt: skip

if __name__ == "__main__":
    main()
