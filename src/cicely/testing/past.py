"""What an engine kept of the past, in full and levelled, so that two engines can be compared."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from cicely.core.event import Event, EventFilter
from cicely.core.rollup import Cell, whole
from cicely.engines.contract import Engine
from cicely.testing.conformance.harness import Capability

_EVER: Final = 1 << 40


def cells_of(engine: Engine, promised: Collection[Capability]) -> tuple[Cell, ...]:
    """Return all that was counted; nothing where that was not promised."""
    if Capability.ROLLUPS not in promised:
        return ()
    parts: list[Cell] = []
    minute: int | None = 0
    while minute is not None:
        page = engine.rollups(minute, _EVER)
        parts += page.cells
        minute = page.next_minute
    return tuple(whole(parts))


def events_of(engine: Engine, promised: Collection[Capability]) -> tuple[Event, ...]:
    """Return all events without their cursors; nothing where they were not promised.

    Those of one call come in any order, so they are sorted.
    """
    if Capability.EVENTS not in promised:
        return ()
    found: list[Event] = []
    cursor: str | None = None
    more = True
    while more:
        page = engine.history(EventFilter(), cursor=cursor)
        found += (msgspec.structs.replace(event, cursor="") for event in page.events)
        cursor, more = page.cursor, page.more
    return tuple(
        sorted(found, key=lambda event: (event.at, event.kind, event.job_id, event.name, event.fence))
    )
