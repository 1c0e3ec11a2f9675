"""What every measure is given: the place, the sizes, and the runs of Cicely's own side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.runs import Moved, Run, results


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
    limit_s: float = 40.0


QUICK = Sizes(backlog=100_000, singles=1_500, latencies=150, idle_s=8.0, kills=4, raw_drain=100_000)


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
    """A folder for the files of one repetition, and who works on them."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes

    @property
    def path(self) -> Path:
        """Cicely's file."""
        return self.folder / "bench.db"

    @property
    def url(self) -> str:
        """The engine's URL, at its defaults."""
        return f"sqlite:///{self.path}"

    @property
    def environment(self) -> dict[str, str]:
        """How producers and workers find the engine."""
        return {"CICELY_URL": self.url}

    def clear(self) -> None:
        """Start over with an empty file."""
        for old in self.folder.glob("bench.db*"):
            if old.is_file() or old.is_socket():
                old.unlink()

    def produce(self, work: str, count: int, *, limit_s: float | None = None) -> Any:
        """Have a producer do one piece of work, and return its answer."""
        limit_s = self.sizes.limit_s if limit_s is None else limit_s
        run = Run("benchmarks.producer", work, count, limit_s, environment=self.environment)
        return results([run], limit_s=limit_s)[0]

    def moved(self, work: str, count: int, *, limit_s: float | None = None) -> Moved:
        """Have a producer move jobs; say so when it could not move them all in time."""
        answer = msgspec.convert(self.produce(work, count, limit_s=limit_s), Moved)
        if answer.jobs < count * 0.9:
            say(f"{work}: only {answer.jobs:,} of {count:,} jobs in time")
        return answer


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)
