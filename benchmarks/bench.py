"""What every measure is given: the place, the sizes, and the runs of Cicely's own side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.grounds import Ground, SqliteGround
from benchmarks.runs import Moved, Run, results
from benchmarks.worker import Worker


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. Every loop is bounded by `limit_s` as well."""

    drain: int = 50_000
    raw_drain: int = 200_000
    singles: int = 3_000
    bulk: int = 50_000
    latencies: int = 300
    idle_s: float = 15.0
    kills: int = 7
    backlog: int = 1_000_000
    workflow: int = 10_000
    blocked: int = 100_000
    steps: int = 300
    held_s: float = 60.0
    snapshot_s: float = 600.0
    limit_s: float = 40.0


QUICK = Sizes(
    backlog=100_000,
    blocked=10_000,
    singles=1_500,
    latencies=150,
    idle_s=8.0,
    kills=4,
    raw_drain=100_000,
    held_s=15.0,
    snapshot_s=60.0,
)


class Figure(msgspec.Struct, frozen=True):
    """One measurement of one line, and that of the raw loop beside it in the same minute."""

    line: str
    value: float
    raw: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value as a share of the raw one."""
        return None if self.raw is None else self.value / self.raw


class Bench:
    """An engine to measure, a folder for other files, and who works on them."""

    def __init__(self, folder: Path, sizes: Sizes, ground: Ground | None = None) -> None:
        self.folder = folder
        self.sizes = sizes
        self.ground = ground or SqliteGround(folder)

    @property
    def url(self) -> str:
        """The engine's URL, at its defaults."""
        return self.ground.url

    @property
    def raw_place(self) -> str:
        """Where the raw loops work."""
        return self.ground.raw_place

    def aside(self, name: str) -> Bench:
        """Return the same with another place for its jobs."""
        return Bench(self.folder, self.sizes, self.ground.aside(name))

    @property
    def environment(self) -> dict[str, str]:
        """How producers and workers find the engine."""
        return {"CICELY_URL": self.url}

    def clear(self) -> None:
        """Start over without jobs."""
        self.ground.clear()

    def produce(self, work: str, count: int, *, limit_s: float | None = None) -> Any:
        """Have a producer do one piece of work, and return its answer."""
        limit_s = self.sizes.limit_s if limit_s is None else limit_s
        run = Run("benchmarks.producer", work, count, limit_s, environment=self.environment)
        return results([run], limit_s=limit_s)[0]

    def moved(self, work: str, count: int, *, limit_s: float | None = None) -> Moved:
        """Have a producer move jobs; say so when it could not move them all in time."""
        answer = msgspec.convert(self.produce(work, count, limit_s=limit_s), Moved)
        return _checked(answer, work, count)

    def drained(self, count: int, *, processes: int, limit_s: float | None = None) -> Moved:
        """Have a worker run `count` of the jobs that are there, and somebody look on."""
        limit_s = self.sizes.limit_s if limit_s is None else limit_s
        # It looks before the worker starts: a job that ended unseen would be waited for in vain.
        watch = Run("benchmarks.producer", "watch", count, limit_s, environment=self.environment)
        watch.wait_until_ready()
        watch.go()
        with Worker(self.url, processes=processes):
            return _checked(msgspec.convert(watch.result(limit_s), Moved), "watch", count)


def _checked(answer: Moved, work: str, count: int) -> Moved:
    if answer.jobs < count * 0.9:
        say(f"{work}: only {answer.jobs:,} of {count:,} jobs in time")
    return answer


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)
