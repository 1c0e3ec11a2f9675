"""What the memory engine tells of the past: rollups and history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.event import NEWEST, EventFilter, EventPage
from cicely.core.rollup import Cell, Count, RollupPage
from cicely.engines.memory.upkeep import Upkeep

#: A call looks at so many events at most.
_SEEN_PER_CALL: Final = 1_000


class Chronicle(Upkeep):
    """Reading what was written down, and writing down what workers saw."""

    def report(self, counts: Sequence[Count]) -> None:
        with self._lock:
            self._report(counts)

    def _report(self, counts: Sequence[Count]) -> None:
        for one in counts:
            self._record.count(one.word, one.count, name=one.name, ago_s=one.ago_s)

    def rollups(self, since_minute: int, until_minute: int, *, limit: int = 1_000) -> RollupPage:
        with self._lock:
            cells: list[Cell] = []
            for minute in self._record.minutes(since_minute, until_minute):
                if len(cells) >= limit:
                    return RollupPage(tuple(cells), minute)
                cells.extend(self._record.cells(minute))
            return RollupPage(tuple(cells), None)

    def history(self, where: EventFilter, *, limit: int = 100, cursor: str | None = None) -> EventPage:
        with self._lock:
            newest = self._record.newest
            if cursor == NEWEST:
                return EventPage((), newest)
            behind = self._record.after(cursor)
            found = [event for event in behind[:_SEEN_PER_CALL] if where.matches(event)][:limit]
            if found and len(found) == limit:
                last = found[-1].cursor
            elif behind:
                last = behind[:_SEEN_PER_CALL][-1].cursor
            else:
                last = cursor or newest
            return EventPage(tuple(found), last, more=bool(behind) and behind[-1].cursor != last)
