"""The report: what was promised over some days, what came of it, and whether that is enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from cicely.core.job import DAY_S
from cicely.core.rollup import MINUTE_S, Cell, Word

WEEK_S: Final = 7 * DAY_S

#: The share of jobs that may fail, of ticks that must be made, of minutes that must be served.
FAILURE_RATE: Final = 0.001
SCHEDULE_RELIABILITY: Final = 1.0
AVAILABILITY: Final = 0.999
CRASHES_A_WEEK: Final = 1.0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One promise: its measure (None: nothing to measure), its target and what the measure is made of.

    `is_met` is None where there is nothing to judge.
    """

    name: str
    measure: float | None
    target: float | None
    unit: str
    is_met: bool | None
    made_of: str


class Tally(msgspec.Struct, kw_only=True):
    """What a window of minutes amounts to. `until` is the first minute after it."""

    since: int
    until: int
    counts: dict[Word, int] = {}
    beaten: set[int] = msgspec.field(default_factory=set)
    troubled: set[int] = msgspec.field(default_factory=set)
    busiest: int = 0
    busiest_minute: int = 0

    def count(self, word: Word) -> int:
        """Return how often a word was counted."""
        return self.counts.get(word, 0)

    @property
    def minutes(self) -> int:
        """How many minutes the window has."""
        return max(0, self.until - self.since)

    @property
    def served(self) -> int:
        """In how many of them a worker beat and no engine call failed."""
        return len(self.beaten - self.troubled)


def tally(counted: Iterable[Cell], *, since: int, until: int) -> Tally | None:
    """Add up the cells of the minutes `since` to before `until`; None where there are none.

    The window begins with the first minute in which anything was counted: before that there was no system
    to judge.
    """
    total = Tally(since=until, until=until)
    succeeded: dict[int, int] = {}
    for cell in counted:
        if not since <= cell.minute < until:
            continue
        _add(total, cell)
        if cell.word is Word.SUCCEEDED:
            succeeded[cell.minute] = succeeded.get(cell.minute, 0) + cell.count
    if succeeded:
        total.busiest_minute, total.busiest = max(succeeded.items(), key=lambda item: (item[1], -item[0]))
    return total if total.minutes else None


def _add(total: Tally, cell: Cell) -> None:
    total.since = min(total.since, cell.minute)
    total.counts[cell.word] = total.count(cell.word) + cell.count
    if cell.word is Word.BEATS:
        total.beaten.add(cell.minute)
    elif cell.word is Word.ENGINE_ERRORS:
        total.troubled.add(cell.minute)


def judged(
    total: Tally, *, overdue: int = 0, per_second: float | None = None, per_job: float = 1.0
) -> list[Line]:
    """Return a line per promise.

    `overdue` counts ticks that are due and that nobody has dealt with. `per_second` is the throughput that is
    wanted, of jobs or, where a job does `per_job` of something, of that.
    """
    return [
        _throughput(total, per_second, per_job),
        _schedules(total, overdue),
        _crashes(total),
        _failures(total),
        _availability(total),
    ]


def _throughput(total: Tally, wanted: float | None, per_job: float) -> Line:
    succeeded = total.count(Word.SUCCEEDED)
    measure = total.busiest * per_job / MINUTE_S if succeeded else None
    mean = succeeded * per_job / (total.minutes * MINUTE_S)
    return Line(
        name="throughput",
        measure=measure,
        target=wanted,
        unit="/s",
        is_met=None if wanted is None else measure is not None and measure >= wanted,
        made_of=f"the busiest minute; {mean:,.1f}/s over all of it, {succeeded:,} jobs succeeded",
    )


def _schedules(total: Tally, overdue: int) -> Line:
    made, left_out = total.count(Word.TICKS_MADE), total.count(Word.TICKS_SKIPPED)
    due = total.count(Word.TICKS_DUE) + overdue
    measure = made / due if due else None
    skipped = f", {left_out:,} of them had no job of their own, as an earlier one ran" if left_out else ""
    late = f", {overdue:,} overdue now" if overdue else ""
    return Line(
        name="schedule reliability",
        measure=measure,
        target=SCHEDULE_RELIABILITY,
        unit="%",
        is_met=None if measure is None else measure >= SCHEDULE_RELIABILITY,
        made_of=f"{made:,} ticks made of {due:,} due{skipped}{late}",
    )


def _crashes(total: Tally) -> Line:
    # A system of one day that lost one worker has not lost seven a week.
    weeks = max(1.0, total.minutes * MINUTE_S / WEEK_S)
    lost, died = total.count(Word.LOST_WORKERS), total.count(Word.CRASHED)
    measure = lost / weeks
    return Line(
        name="worker crashes",
        measure=measure,
        target=CRASHES_A_WEEK,
        unit=" a week",
        is_met=measure < CRASHES_A_WEEK,
        made_of=f"{lost:,} workers lost; {died:,} attempts died with their process",
    )


def _failures(total: Tally) -> Line:
    failed = total.count(Word.FAILED)
    ended = total.count(Word.SUCCEEDED) + failed
    measure = failed / ended if ended else None
    return Line(
        name="failure rate",
        measure=measure,
        target=FAILURE_RATE,
        unit="%",
        is_met=None if measure is None else measure < FAILURE_RATE,
        made_of=f"{failed:,} of {ended:,} jobs failed; {total.count(Word.EXPIRED):,} expired",
    )


def _availability(total: Tally) -> Line:
    measure = total.served / total.minutes
    return Line(
        name="availability",
        measure=measure,
        target=AVAILABILITY,
        unit="%",
        is_met=measure >= AVAILABILITY,
        made_of=(
            f"{total.served:,} of {total.minutes:,} minutes with a worker up and no engine call failed; "
            f"{len(total.troubled):,} with failed calls"
        ),
    )


def is_good(lines: Sequence[Line]) -> bool:
    """Return whether no promise was broken."""
    return all(line.is_met is not False for line in lines)
