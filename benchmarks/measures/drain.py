"""How many no-op jobs two processes run in a second, and what a backlog does to that."""

from __future__ import annotations

from statistics import mean

from benchmarks.bench import Bench, Figure, say
from benchmarks.raw import loops

PROCESSES = 2
FILL_S = 300.0


def drain(bench: Bench) -> list[Figure]:
    """Measure the drain beside the raw loop and beside the bare prototype of a child."""
    jobs = bench.sizes.raw_drain
    raw = [_raw(bench, "drain", ready=jobs)]
    prototype = [_raw(bench, "prototype", ready=jobs)]
    value = _empty(bench)
    # Before and after: a neighbour comes and goes.
    prototype.append(_raw(bench, "prototype", ready=jobs))
    raw.append(_raw(bench, "drain", ready=jobs))
    return [Figure("run", value, mean(raw)), Figure("prototype", value, mean(prototype))]


class Backlog:
    """The drain of a queue that holds very many jobs, as a share of the drain of an empty one.

    The queues are filled once; each repetition takes its jobs out of what is left.
    """

    def __init__(self) -> None:
        self._is_full = False

    def __call__(self, bench: Bench) -> list[Figure]:
        """Measure both drains, and both raw ones, one after the other."""
        raw_empty = _raw(bench, "drain", ready=bench.sizes.raw_drain)
        raw_full = _raw(bench, "drain", ready=bench.sizes.backlog, scheduled=bench.sizes.backlog)
        full_bench = bench.aside("backlog")
        self._fill(full_bench)
        empty = _empty(bench)
        full = _run(full_bench)
        return [
            Figure("backlog_run", full, raw_full),
            Figure("backlog", full / empty, raw_full / raw_empty),
        ]

    def _fill(self, bench: Bench) -> None:
        if self._is_full:
            return
        self._is_full = True
        bench.clear()
        say(f"filling a queue with twice {bench.sizes.backlog:,} jobs")
        bench.moved("schedule", bench.sizes.backlog, limit_s=FILL_S)
        bench.moved("bulk", bench.sizes.backlog, limit_s=FILL_S)


def _raw(bench: Bench, loop: str, *, ready: int, scheduled: int = 0) -> float:
    place = loops.filled(bench.raw_place, ready=ready, scheduled=scheduled)
    count = min(ready, bench.sizes.raw_drain)
    return loops.move(loop, place, count=count, processes=PROCESSES).per_s


def _empty(bench: Bench) -> float:
    bench.clear()
    bench.moved("bulk", bench.sizes.drain)
    return _run(bench)


def _run(bench: Bench) -> float:
    return bench.drained(bench.sizes.drain, processes=PROCESSES).per_s
