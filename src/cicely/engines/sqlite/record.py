"""What one transaction writes down of the past: counts of the minute, and events."""

from __future__ import annotations

from typing import Any, Final

from cicely.core.event import Event
from cicely.core.rollup import CODES, Word, bucket_of, minute_of, run_us
from cicely.engines.sqlite.statements import statements

_SQL: Final = statements("past")

#: The bucket of what did not run.
NO_RUN: Final = -1

#: A cell's minute, task, queue, word and bucket. A task is the number of a class, or minus that of a label.
_Key = tuple[int, int, int, int, int]


class Record:
    """Counts and events, gathered, and written once at the end of the transaction."""

    __slots__ = ("_minute", "_now", "_sums", "events")

    def __init__(self, now: float) -> None:
        self._now = now
        self._minute = minute_of(now)
        self._sums: dict[_Key, tuple[int, int]] = {}
        self.events: list[Event] = []

    def count(self, word: Word, job_class: int, queue: int, count: int = 1) -> None:
        """Count something of jobs that did not run."""
        self._add((self._minute, job_class, queue, CODES[word], NO_RUN), count, 0)

    def count_runs(self, word: Word, job_class: int, queue: int, began_at: float, count: int = 1) -> int:
        """Count attempts that began at one instant and end now; return how long they took, in µs."""
        took_us = run_us(began_at, self._now)
        key = (self._minute, job_class, queue, CODES[word], bucket_of(took_us))
        self._add(key, count, count * took_us)
        return took_us

    def count_other(self, word: Word, label: int, count: int, ago_s: float = 0.0) -> None:
        """Count what is no job's; `label` is the number of its name, 0 for none."""
        minute = minute_of(self._now - max(0.0, ago_s))
        self._add((minute, -label, 0, CODES[word], NO_RUN), count, 0)

    def _add(self, key: _Key, count: int, sum_us: int) -> None:
        was = self._sums.get(key)
        self._sums[key] = (count, sum_us) if was is None else (was[0] + count, was[1] + sum_us)

    def mark(self) -> tuple[dict[_Key, tuple[int, int]], int]:
        """Return what `go_back` needs."""
        return dict(self._sums), len(self.events)

    def go_back(self, mark: tuple[dict[_Key, tuple[int, int]], int]) -> None:
        """Forget what came after `mark`."""
        self._sums = mark[0]
        del self.events[mark[1] :]

    def rows(self) -> list[tuple[Any, ...]]:
        """Return what was counted, and forget it."""
        sums, self._sums = self._sums, {}
        return [(*key, *total) for key, total in sums.items()]
