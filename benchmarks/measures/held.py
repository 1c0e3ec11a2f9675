"""What somebody's open transaction costs on PostgreSQL: one that enqueues, and an old snapshot."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean

import msgspec

from benchmarks.apps import app, stamp
from benchmarks.bench import Bench, Figure, say
from benchmarks.clock import boottime
from benchmarks.worker import Worker

PROCESSES = 2
JOBS_INSIDE = 3
WAIT_S = 20.0
MB = 1 << 20

_DEAD = "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables WHERE schemaname = 'cicely'"
#: The tables that every job passes through; those that keep what ended grow with it.
_HOT = r"""
SELECT coalesce(sum(pg_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'cicely' AND c.relkind = 'r' AND c.relname ~ '^(ready|run|delta)_\d$'
"""


class Look(msgspec.Struct, frozen=True):
    """How the tables stand after a round."""

    per_s: float
    dead_rows: int
    hot_bytes: int


class Held:
    """Both, on PostgreSQL alone; the snapshot is held for minutes, and in the first repetition only."""

    def __init__(self) -> None:
        self._was_snapshot = False

    def __call__(self, bench: Bench) -> list[Figure]:
        """Measure beside an open enqueue, then under a held snapshot."""
        if bench.ground.engine != "postgres":
            return []
        figures = _enqueue(bench)
        if not self._was_snapshot:
            self._was_snapshot = True
            figures += _snapshot(bench)
        return figures


def _enqueue(bench: Bench) -> list[Figure]:
    """Drains with an enqueue open for `held_s`, as a share of those before and after it."""
    import psycopg

    os.environ["CICELY_URL"] = bench.url
    bench.clear()
    alone = _rates(bench, bench.sizes.held_s / 2)
    try:
        with psycopg.connect(bench.raw_place) as caller:
            inside = [stamp.options(connection=caller).delay() for _ in range(JOBS_INSIDE)]
            beside = _rates(bench, bench.sizes.held_s)
            with Worker(bench.url, processes=PROCESSES) as worker:
                worker.wait_until_up(PROCESSES)
                caller.commit()
                committed_at = boottime()
                starts = [job.get(timeout=WAIT_S) for job in inside]
    finally:
        app.close()
    alone += _rates(bench, bench.sizes.held_s / 2)
    return [
        Figure("held_run", mean(beside) / mean(alone)),
        Figure("held_start", max(starts) - committed_at),
    ]


def _snapshot(bench: Bench) -> list[Figure]:
    """Drains under a snapshot for `snapshot_s`: the last third beside the first."""
    bench.clear()
    _rates(bench, 0)
    with _old_snapshot(bench.raw_place):
        looks: list[Look] = []
        give_up_at = time.monotonic() + bench.sizes.snapshot_s
        while len(looks) < 3 or time.monotonic() < give_up_at:
            looks.append(_look(bench, _rates(bench, 0)[0]))
            say(f"  {looks[-1]}")
    third = len(looks) // 3
    first, last = looks[:third], looks[-third:]
    jobs = bench.sizes.drain * (len(looks) - third)
    return [
        Figure("snapshot_run", mean(one.per_s for one in last) / mean(one.per_s for one in first)),
        Figure("snapshot_dead", max(0, _dead(last) - _dead(first)) / jobs * 1000),
        Figure("snapshot_size", (_hot(last) - _hot(first)) / MB),
    ]


def _dead(looks: list[Look]) -> float:
    return mean(one.dead_rows for one in looks)


def _hot(looks: list[Look]) -> int:
    return max(one.hot_bytes for one in looks)


def _rates(bench: Bench, seconds: float) -> list[float]:
    """Return the rate of each drain, one at least, for so long."""
    give_up_at = time.monotonic() + seconds
    rates: list[float] = []
    while not rates or time.monotonic() < give_up_at:
        bench.moved("bulk", bench.sizes.drain)
        rates.append(bench.drained(bench.sizes.drain, processes=PROCESSES).per_s)
    return rates


@contextmanager
def _old_snapshot(url: str) -> Iterator[None]:
    """Keep a transaction open that still sees the rows of now, so that no vacuum may remove them."""
    import psycopg

    with psycopg.connect(url) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT pg_current_xact_id()")
        yield
        holder.rollback()


def _look(bench: Bench, per_s: float) -> Look:
    import psycopg

    with psycopg.connect(bench.raw_place, autocommit=True) as db:
        [dead_rows] = db.execute(_DEAD).fetchone() or (0,)
        [hot_bytes] = db.execute(_HOT).fetchone() or (0,)
    return Look(per_s, int(dead_rows), int(hot_bytes))
