"""Reading events: page by page from a cursor, to the end or for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cicely.core.event import Event, EventFilter, EventPage
from cicely.engines.contract import Engine

PAGE: Final = 500

#: A follower asks so often.
FOLLOW_S: Final = 0.5


def page_behind(engine: Engine, where: EventFilter, cursor: str | None) -> EventPage:
    """Return the next page that holds an event, or the last one."""
    while True:
        page = engine.history(where, limit=PAGE, cursor=cursor)
        if page.events or not page.more:
            return page
        cursor = page.cursor


def events_behind(engine: Engine, where: EventFilter, cursor: str | None = None) -> Iterator[Event]:
    """Yield the events from behind a cursor to the end, oldest first."""
    more = True
    while more:
        page = page_behind(engine, where, cursor)
        yield from page.events
        cursor, more = page.cursor, page.more
