"""What happened, as a user reads it: an iterator of events that can be resumed, for threads and for loops."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Final

from cicely.connection import Connection
from cicely.core.event import KINDS, NEWEST, Event, EventFilter, EventPage
from cicely.core.text import storable
from cicely.errors import ConfigError
from cicely.observe.events import FOLLOW_S, page_behind
from cicely.observe.metrics import Metrics
from cicely.settings import instant_of

#: What an event may be asked for by: its noun, or its whole name.
_KNOWN: Final = (*dict.fromkeys(kind.partition(".")[0] for kind in KINDS), *KINDS)
_CURSOR: Final = re.compile(r"[0-9]{0,18}")


class Events:
    """Events, oldest first; `cursor` resumes behind the last that was given out, in any process.

    A `for` or an `async for` over it. One that follows waits for what is to come, for ever; any other ends
    with what has happened.
    """

    def __init__(
        self, connection: Connection, where: EventFilter, *, cursor: str | None, follow: bool
    ) -> None:
        self.cursor = cursor
        self._connection = connection
        self._where = where
        self._follow = follow

    def __iter__(self) -> Iterator[Event]:
        """Yield events, and sleep while there is none to follow."""
        while True:
            page = self._page()
            for event in page.events:
                self.cursor = event.cursor
                yield event
            self.cursor = page.cursor
            if page.more:
                continue
            if not self._follow:
                return
            time.sleep(FOLLOW_S)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events, and let the loop go on while there is none to follow."""
        import asyncio

        while True:
            page = await asyncio.to_thread(self._page)
            for event in page.events:
                self.cursor = event.cursor
                yield event
            self.cursor = page.cursor
            if page.more:
                continue
            if not self._follow:
                return
            await asyncio.sleep(FOLLOW_S)

    def _page(self) -> EventPage:
        return self._connection.call(lambda engine: page_behind(engine, self._where, self.cursor))


class History:
    """The part of an app that tells what happened."""

    _connection: Connection

    def metrics(self) -> str:
        """Return the state of the whole system as text for Prometheus, to be served at /metrics.

        Jobs by queue and state, what was counted since this process first asked, and run times by
        task. Serve it as `cicely.observe.metrics.CONTENT_TYPE`.
        """
        metrics: Metrics = vars(self).setdefault("_metrics", Metrics())
        return self._connection.call(metrics.text)

    def events(
        self,
        kind: str | Sequence[str] = (),
        *,
        task: str = "",
        queue: str = "",
        job: str = "",
        workflow: str = "",
        since: datetime | float | None = None,
        cursor: str | None = None,
        follow: bool = False,
    ) -> Events:
        """Return the events that match, to be iterated with `for` or `async for`, oldest first.

        `kind` is one or several, as "job.failed", or a noun, as "worker". `cursor` is that of an event, or of
        what was returned here before: each event behind it comes once. With `follow` it goes on with what
        happens; without `cursor` and `since` it then begins with what is to come. Events are kept 30 days.
        """
        where = EventFilter(
            kinds=kinds_of(kind),
            task=storable(task),
            queue=storable(queue),
            job_id=storable(job),
            workflow=storable(workflow),
            since=None if since is None else instant_of(since, name="since"),
        )
        cursor = None if cursor is None else cursor_of(cursor)
        if follow and cursor is None and since is None:
            # Now, not with the first step of the iteration: what happens in between is not to be missed.
            cursor = self._connection.call(lambda engine: engine.history(where, cursor=NEWEST)).cursor
        return Events(self._connection, where, cursor=cursor, follow=follow)


def cursor_of(cursor: str) -> str:
    """Return a cursor as engines read it, "" from the oldest event on. Raises ConfigError."""
    if cursor == NEWEST or (isinstance(cursor, str) and _CURSOR.fullmatch(cursor)):
        return cursor
    raise ConfigError(f"cursor={cursor!r}: the cursor of an event, as it was given out with it")


def kinds_of(kind: str | Sequence[str]) -> tuple[str, ...]:
    """Return kinds of events as a filter takes them. Raises ConfigError for one that is never told."""
    kinds = tuple(kind) if isinstance(kind, Sequence) and not isinstance(kind, str) else (kind,)
    for one in kinds:
        if one not in _KNOWN:
            near = get_close_matches(one, _KNOWN, n=1) if isinstance(one, str) else []
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_KNOWN)}"
            raise ConfigError(f"there is no event {one!r}; {hint}")
    return kinds
