"""The verbs of the past: report, rollups and history."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cicely.core.event import KEEP_HISTORY_S, MAX_HISTORY, NEWEST, Event, EventFilter, EventPage
from cicely.core.rollup import KEEP_ROLLUP_MINUTES, WORDS, Cell, RollupPage, minute_of
from cicely.engines.postgres.record import NO_BUCKET
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("past")

#: A call looks at so many events at most, and a step gives numbers to so many.
_SEEN_PER_CALL: Final = 1_000
_MOVED_AT_ONCE: Final = 10_000

_decode = msgspec.msgpack.Decoder(Event).decode


def rollups(txn: Transaction, since_minute: int, until_minute: int, limit: int) -> RollupPage:
    """Return what was counted, in parts that add up."""
    bounds = {"since": since_minute, "until": until_minute, "limit": max(1, limit)}
    rows = txn.rows(_SQL["rollups"], bounds)
    cells = [_cell(txn, row) for row in rows if row[1] in WORDS]
    looked_at = rows[0][-1] if rows else 0
    last = cells[-1].minute if cells else until_minute
    is_cut = looked_at >= limit and last + 1 < until_minute
    return RollupPage(tuple(cells), last + 1 if is_cut else None)


def _cell(txn: Transaction, row: Values) -> Cell:
    minute, word, queue, job_class, name, bucket, count, sum_us, _ = row
    task = txn.class_of(job_class)[0] if job_class else name
    buckets = {} if bucket == NO_BUCKET else {bucket: count}
    return Cell(minute, WORDS[word], task, txn.queue_name(queue) if queue else "", count, sum_us, buckets)


def history(txn: Transaction, where: EventFilter, limit: int, cursor: str | None) -> EventPage:
    """Return one page of events; those that were told have their numbers."""
    if cursor == NEWEST:
        return EventPage((), newest(txn))
    after = int(cursor) if cursor else 0
    rows = txn.rows(_SQL["history"], {"after": after, "limit": _SEEN_PER_CALL + 1})
    found: list[Event] = []
    last = after
    seen = 0
    for seq, data in rows[:_SEEN_PER_CALL]:
        last, seen = seq, seen + 1
        event = _read(data)
        if event is not None and where.matches(event):
            found.append(msgspec.structs.replace(event, cursor=str(seq)))
            if len(found) == limit:
                break
    if not rows:
        return EventPage((), cursor or newest(txn))
    return EventPage(tuple(found), str(last), more=seen < len(rows))


def _read(data: bytes) -> Event | None:
    try:
        return _decode(data)
    except (msgspec.DecodeError, TypeError):
        return None


def newest(txn: Transaction) -> str:
    """Return the cursor behind the last event."""
    [(seq,)] = txn.rows(_SQL["newest"])
    return str(seq)


def has_told(txn: Transaction) -> bool:
    """Return whether there are events without a number."""
    return bool(txn.rows(_SQL["has_told"])[0][0])


def number(txn: Transaction) -> None:
    """Give events their numbers: the last thing before the commit."""
    txn.write_last()
    if has_told(txn):
        txn.rows(_SQL["lock"])
        txn.execute(_SQL["move"], {"limit": _MOVED_AT_ONCE})


def forget(txn: Transaction, batch: int) -> bool:
    """Drop what is past its retention, `batch` rows of each at most; return whether there may be more."""
    oldest = minute_of(txn.now) - KEEP_ROLLUP_MINUTES
    [(cells,)] = txn.rows(_SQL["forget_rollups"], {"oldest": oldest, "batch": batch})
    below: Any = int(newest(txn)) - MAX_HISTORY
    where = {"before": txn.now - KEEP_HISTORY_S, "below": below, "batch": batch}
    [(events,)] = txn.rows(_SQL["forget_history"], where)
    return batch in (cells, events)
