"""The past: what was counted per minute, and events; see scripts/parts/past.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.core.event import NEWEST, Event, EventFilter, EventPage
from cicely.core.rollup import CODES, WORDS, Cell, Count, RollupPage
from cicely.engines.redis.caller import Caller
from cicely.engines.redis.keys import quoted, unquoted
from cicely.engines.redis.line import Reply, Word

#: A call looks at so many events at most, and asks for them in pages.
_SEEN_PER_CALL: Final = 1_000
_PAGE: Final = 250
_NO_RUN: Final = -1
_EVENT_HEAD: Final = b"\x9b"
#: Of these events the name stands quoted, as in keys.
_QUOTED: Final = ("breaker", "lane", "limit", "queue")


class Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event as scripts write it: values one after the other, of which this makes an array."""

    kind: str
    at: float
    name: str
    reason: str
    job_id: str
    task: str
    queue: str
    workflow: str
    attempt: int
    fence: int
    run_s: float | None


_told: Final = msgspec.msgpack.Decoder(Told).decode


# --- counts -------------------------------------------------------------------------------
def report(run: Caller, counts: Sequence[Count]) -> None:
    """Add what a worker saw."""
    run("report", *[word for one in counts for word in reported_as(one)])


def reported_as(one: Count) -> tuple[Word, Word, Word, str]:
    """Return a count as scripts take it."""
    return CODES[one.word], quoted(one.name), one.count, repr(float(one.ago_s))


def rollups(run: Caller, since: int, until: int, limit: int) -> RollupPage:
    """Return what was counted in some minutes."""
    next_minute, *values = run("rollups", since, until, limit)
    cells: list[Cell] = []
    for minute, fields in zip(values[::2], values[1::2], strict=True):
        cells += _cells(int(minute), fields)
    return RollupPage(tuple(cells), int(next_minute) if next_minute else None)


def _cells(minute: int, fields: Sequence[bytes]) -> list[Cell]:
    """Return the cells of a minute, each in parts: one by bucket, and one with the time that all took."""
    return [
        _cell(minute, field.decode(), int(value))
        for field, value in zip(fields[::2], fields[1::2], strict=True)
    ]


def _cell(minute: int, field: str, value: int) -> Cell:
    code, *middle, queue, task = field.split("|")
    place = (minute, WORDS[int(code.removeprefix("s"))], unquoted(task), unquoted(queue))
    if not middle:
        return Cell(*place, sum_us=value)
    bucket = int(middle[0])
    return Cell(*place, value, 0, {} if bucket == _NO_RUN else {bucket: value})


# --- events -------------------------------------------------------------------------------
def history(run: Caller, where: EventFilter, limit: int, cursor: str | None) -> EventPage:
    """Return one page of the events that match, oldest first, from behind `cursor`."""
    if cursor == NEWEST:
        return EventPage((), run("history", 0, 0)[0].decode())
    found: list[Event] = []
    behind, seen = cursor, 0
    while seen < _SEEN_PER_CALL:
        newest, *values = run("history", behind or "0", _PAGE)
        for number, told in zip(values[::2], values[1::2], strict=True):
            event = _event(number, told)
            behind, seen = event.cursor, seen + 1
            if where.matches(event):
                found.append(event)
            if len(found) == limit:
                return EventPage(tuple(found), behind, more=behind != newest.decode())
        if len(values) < 2 * _PAGE:
            return EventPage(tuple(found), behind or newest.decode())
    return EventPage(tuple(found), behind or "0", more=behind != newest.decode())


def _event(number: Reply, packed: bytes) -> Event:
    told = _told(_EVENT_HEAD + packed)
    is_quoted = told.kind.partition(".")[0] in _QUOTED
    return Event(
        kind=told.kind,
        at=told.at,
        name=unquoted(told.name) if is_quoted else told.name,
        reason=told.reason,
        job_id=told.job_id,
        task=unquoted(told.task),
        queue=unquoted(told.queue),
        workflow=told.workflow,
        attempt=told.attempt,
        fence=told.fence,
        run_s=told.run_s,
        cursor=number.decode(),
    )
