"""Gives ends a part of their table for each day on which they expire, and drops it when the day is over.

The ends of plain jobs are never deleted one by one: they stay behind when their jobs are deleted, and mean
nothing from then on. So they leave no dead rows, and nothing for vacuum to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from cicely.core.job import DAY_S
from cicely.engines.postgres.graph import LINKED
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.turning import PATIENCE, is_held, whole
from cicely.engines.postgres.wire import Link

_SQL: Final = statements("days")

#: What lies in no day's part.
NO_DAY: Final = 0
#: Today and so many days after it have a part: as long as successes are kept unless told otherwise, and more.
_DAYS_AHEAD: Final = 2
#: A day is shut so long after its end, when no settle can be on its way to it any more.
_GRACE_S: Final = 3_600.0
#: No instant that a clock shows: those who stay until somebody says otherwise.
_NEVER_AT: Final = 1e12

Begin = Callable[[], object]


def day_of(delete_at: float, traits: int) -> int:
    """Return on which day an end expires; NO_DAY where others may depend on when it goes."""
    return NO_DAY if traits & LINKED or delete_at >= _NEVER_AT else int(delete_at // DAY_S)


def look_after_days(link: Link, begin: Begin, now: float | None) -> None:
    """Make the parts of the next days, and drop those that are over; outside a transaction."""
    begin()
    [(now, known, is_open, is_swept)] = link.execute(_SQL["known"], {"now": now}).fetchall()
    link.execute("COMMIT")
    for day in _wanted(now):
        if day not in known:
            whole(link, partial(_make, link, begin, day))
    over = [day for day in is_open if (day + 1) * DAY_S + _GRACE_S <= now]
    if over:
        whole(link, partial(_shut, link, begin, over))
    for day in sorted(is_swept):
        whole(link, partial(_drop, link, begin, day))


def _wanted(now: float) -> Iterable[int]:
    today = int(now // DAY_S)
    return range(max(today, NO_DAY + 1), today + _DAYS_AHEAD + 1)


def _make(link: Link, begin: Begin, day: int) -> None:
    begin()
    if _is_alone(link) and link.execute(_SQL["open"], {"day": day}).fetchall():
        link.execute(PATIENCE)
        link.execute(_of("make", day))
        link.execute(_of("attach", day))
    link.execute("COMMIT")


def _shut(link: Link, begin: Begin, days: list[int]) -> None:
    begin()
    link.execute(PATIENCE)
    link.execute(_SQL["shut"], {"days": days})
    link.execute("COMMIT")


def _drop(link: Link, begin: Begin, day: int) -> None:
    begin()
    if _is_alone(link) and not is_held(link, "done") and not is_held(link, f"done_{day}"):
        link.execute(PATIENCE)
        link.execute(_of("lock", day))
        if _has_jobs(link, day):
            link.execute(_SQL["sweep_anew"], {"day": day})
        else:
            # First: a sweep that looks after this day has its row.
            link.execute(_SQL["forget"], {"day": day})
            link.execute(_of("drop", day))
    link.execute("COMMIT")


def _has_jobs(link: Link, day: int) -> bool:
    """Return whether one of the ends is still that of a job: it came late, or was locked when swept."""
    after: int | None = 0
    while after is not None:
        [(after, jobs)] = link.execute(_of("look", day), {"after": after}).fetchall()
        if jobs:
            return True
    return False


def _is_alone(link: Link) -> bool:
    [(is_alone,)] = link.execute(_SQL["alone"]).fetchall()
    return bool(is_alone)


def _of(statement: str, day: int) -> str:
    return _SQL[statement].replace("done_DAY", f"done_{day}").replace("(DAY)", f"({day})")
