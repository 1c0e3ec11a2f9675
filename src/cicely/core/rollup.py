"""Rollups: what happened per minute, as counts that add up.

A cell counts one word for one task and queue in one minute of the engine's clock. Attempts bring
the time that they took: its sum, and a histogram of fixed buckets, so that cells of any minutes,
tasks and engines can be added. Whatever is kept twice, or in parts, is only added again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from cicely.core.job import DAY_S
from cicely.core.outcome import Again, Finish, Pause
from cicely.core.states import State

MINUTE_S: Final = 60.0
KEEP_ROLLUPS_S: Final = 30 * DAY_S
KEEP_ROLLUP_MINUTES: Final = int(KEEP_ROLLUPS_S // MINUTE_S)

#: Bucket 0 is below 1 ms; the last holds all from 2**30 ms (12 days) on. Two per octave lie between.
LAST_BUCKET: Final = 61
_LARGEST_MS: Final = 1 << 30


class Word(StrEnum):
    """What is counted. Each end of a job is counted once, each attempt after which it goes on, too.

    `enqueued` to `suspended` are counted by engines, `suspended` and those before it per task and
    queue. `lost workers` as well, for the whole engine. The others are reported: ticks per
    schedule (as the cell's task), minutes in which one beat, and calls that an engine failed.
    """

    ENQUEUED = "enqueued"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    RETRIED = "retried"
    CRASHED = "crashed"
    LOST = "lost"
    RETURNED = "returned"
    DEFERRED = "deferred"
    SUSPENDED = "suspended"
    LOST_WORKERS = "lost workers"
    TICKS_DUE = "ticks due"
    TICKS_MADE = "ticks made"
    TICKS_SKIPPED = "ticks skipped"
    BEATS = "beats"
    ENGINE_ERRORS = "engine errors"


#: The numbers under which engines store words: never to change.
CODES: Final[Mapping[Word, int]] = {
    Word.ENQUEUED: 0,
    Word.SUCCEEDED: 1,
    Word.FAILED: 2,
    Word.CANCELLED: 3,
    Word.EXPIRED: 4,
    Word.RETRIED: 5,
    Word.CRASHED: 6,
    Word.LOST: 7,
    Word.RETURNED: 8,
    Word.DEFERRED: 9,
    Word.SUSPENDED: 10,
    Word.LOST_WORKERS: 20,
    Word.TICKS_DUE: 30,
    Word.TICKS_MADE: 31,
    Word.TICKS_SKIPPED: 32,
    Word.BEATS: 40,
    Word.ENGINE_ERRORS: 41,
}
WORDS: Final[Mapping[int, Word]] = {code: word for word, code in CODES.items()}

#: What an attempt's reason counts as, where its job goes on; any other is a retry.
_WENT_ON: Final = {
    "crashed": Word.CRASHED,
    "lost": Word.LOST,
    "handed back": Word.RETURNED,
    "deferred": Word.DEFERRED,
    "probe": Word.DEFERRED,
}
_ENDED: Final = {
    State.SUCCEEDED: Word.SUCCEEDED,
    State.FAILED: Word.FAILED,
    State.CANCELLED: Word.CANCELLED,
    State.EXPIRED: Word.EXPIRED,
}


class Cell(msgspec.Struct, frozen=True, gc=False):
    """What was counted for one word, task and queue in one minute since 1970.

    `sum_us` and `buckets` (bucket -> count) are of those of the `count` that ran, claim to end.
    """

    minute: int
    word: Word
    task: str = ""
    queue: str = ""
    count: int = 0
    sum_us: int = 0
    buckets: Mapping[int, int] = {}

    @property
    def ran(self) -> int:
        """How many of the count had run."""
        return sum(self.buckets.values())


class Count(msgspec.Struct, frozen=True, gc=False):
    """Something that a worker saw `ago_s` seconds ago; `name` stands in the place of a task."""

    word: Word
    count: int = 1
    name: str = ""
    ago_s: float = 0.0


class RollupPage(msgspec.Struct, frozen=True):
    """The cells of some minutes, and the minute that goes on from there (None: no more).

    A page holds minutes whole. One cell may come in several parts, which add up.
    """

    cells: tuple[Cell, ...]
    next_minute: int | None


# --- what counts as what ------------------------------------------------------------------------
def word_of(step: Finish | Again | Pause, attempt_reason: str) -> Word | None:
    """Return what is counted when `step` is carried out, None where nothing is.

    A claim that was given back before its code began is no attempt.
    """
    if isinstance(step, Finish):
        return _ENDED[step.state]
    if isinstance(step, Pause):
        return Word.SUSPENDED
    if not step.has_started:
        return None
    return _WENT_ON.get(attempt_reason, Word.RETRIED)


def minute_of(at: float) -> int:
    """Return the minute since 1970 that an instant is in."""
    return int(at // MINUTE_S)


def run_us(started_at: float, ended_at: float) -> int:
    """Return how long an attempt took, in whole microseconds; 0 where the clock stepped back."""
    return max(0, round((ended_at - started_at) * 1e6))


def bucket_of(duration_us: int) -> int:
    """Return the bucket of a duration. Whole milliseconds are compared, so that all engines agree.

    An octave [2**k, 2**(k+1)) ms is halved at 1.5 * 2**k: buckets 1 + 2k and 2 + 2k.
    """
    ms = duration_us // 1000
    if ms <= 0:
        return 0
    if ms >= _LARGEST_MS:
        return LAST_BUCKET
    k = ms.bit_length() - 1
    return 1 + 2 * k + (2 * ms >= 3 << k)


def bucket_from_s(bucket: int) -> float:
    """Return the shortest duration, in seconds, that lies in a bucket."""
    if bucket <= 0:
        return 0.0
    k, half = divmod(bucket - 1, 2)
    return (1 << k) * (1.5 if half else 1.0) / 1000


# --- adding up ----------------------------------------------------------------------------------
class Sum:
    """Some cells added up."""

    __slots__ = ("buckets", "count", "sum_us")

    def __init__(self) -> None:
        self.count = 0
        self.sum_us = 0
        self.buckets: dict[int, int] = {}

    def add(self, cell: Cell | Sum) -> None:
        """Add a cell, or what was added up elsewhere."""
        self.count += cell.count
        self.sum_us += cell.sum_us
        for bucket, count in cell.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def add_run(self, duration_us: int) -> None:
        """Count one that ran for so long."""
        self.count += 1
        self.sum_us += duration_us
        bucket = bucket_of(duration_us)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    @property
    def ran(self) -> int:
        """How many of the count had run."""
        return sum(self.buckets.values())

    @property
    def mean_s(self) -> float:
        """How long those that ran took on average; 0 where none did."""
        return self.sum_us / 1e6 / self.ran if self.ran else 0.0

    def quantile_s(self, share: float) -> float:
        """Return the duration that `share` of those that ran did not exceed.

        Exact to its bucket, a third of an octave at worst; even within it by assumption.
        """
        return quantile_s(self.buckets, share)


def quantile_s(buckets: Mapping[int, int], share: float) -> float:
    """Return the duration that `share` (0 to 1) of a histogram's durations do not exceed; 0 for none."""
    wanted = share * sum(buckets.values())
    passed = 0
    for bucket in sorted(buckets):
        count = buckets[bucket]
        if passed + count >= wanted and count:
            low, high = bucket_from_s(bucket), bucket_from_s(bucket + 1)
            return low + (high - low) * (wanted - passed) / count
        passed += count
    return 0.0


def whole(cells: Iterable[Cell]) -> Iterator[Cell]:
    """Put the parts of cells together: one for each minute, word, task and queue, in this order."""
    sums: dict[tuple[int, Word, str, str], Sum] = {}
    for cell in cells:
        sums.setdefault((cell.minute, cell.word, cell.task, cell.queue), Sum()).add(cell)
    for key in sorted(sums):
        total = sums[key]
        yield Cell(*key, total.count, total.sum_us, dict(sorted(total.buckets.items())))
