"""The verbs of the past: report, rollups and history, and what of it is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.core.event import KEEP_HISTORY_S, MAX_HISTORY, NEWEST, Event, EventFilter, EventPage
from cicely.core.rollup import KEEP_ROLLUP_MINUTES, WORDS, Cell, Count, RollupPage, minute_of, whole
from cicely.engines.sqlite.record import NO_RUN
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction, Values

_SQL: Final = statements("past")

#: A call looks at so many events at most.
_SEEN_PER_CALL: Final = 1_000

_decode = msgspec.msgpack.Decoder(Event).decode


# --- rollups --------------------------------------------------------------------------------------
def report(txn: Transaction, counts: Sequence[Count]) -> None:
    """Add what a worker saw to the minutes in which it did."""
    for one in counts:
        label = txn.rows(_SQL["label"], (one.name,))[0][0] if one.name else 0
        txn.record.count_other(one.word, label, one.count, one.ago_s)


def rollups(txn: Transaction, since_minute: int, until_minute: int, limit: int) -> RollupPage:
    """Return what was counted, minutes whole."""
    rows = txn.rows(_SQL["between"], (since_minute, until_minute, limit + 1))
    if len(rows) <= limit:
        return RollupPage(_cells(txn, rows), None)
    last = rows[-1][0]
    if rows[0][0] < last:
        return RollupPage(_cells(txn, [row for row in rows if row[0] < last]), last)
    following = txn.row(_SQL["next_minute"], (last, until_minute))
    rows = txn.rows(_SQL["between"], (last, last + 1, -1))
    return RollupPage(_cells(txn, rows), following[0] if following else None)


def _cells(txn: Transaction, rows: Sequence[Values]) -> tuple[Cell, ...]:
    """Return cells of rows, of which one cell may have several."""
    labels: dict[int, str] = dict(txn.rows(_SQL["labels"])) if any(row[1] < 0 for row in rows) else {}
    parts = []
    for minute, task, queue, code, bucket, count, sum_us in rows:
        if code not in WORDS:
            # A newer version counted it.
            continue
        name = labels.get(-task, "") if task <= 0 else txn.names.class_of(task)[0]
        buckets = {} if bucket == NO_RUN else {bucket: count}
        queue_name = txn.names.queue_name(queue) if queue else ""
        parts.append(Cell(minute, WORDS[code], name, queue_name, count, sum_us, buckets))
    return tuple(whole(parts))


# --- history --------------------------------------------------------------------------------------
def newest(txn: Transaction) -> str:
    """Return the cursor behind the last event."""
    row = txn.row(_SQL["newest"])
    return str(row[0] if row else 0)


def newest_in(txn: Transaction) -> str:
    """Return the cursor behind the last event, those of this transaction among them."""
    txn.write_past()
    return newest(txn)


def history(txn: Transaction, where: EventFilter, limit: int, cursor: str | None) -> EventPage:
    """Return one page of the events that match, oldest first."""
    if cursor == NEWEST:
        return EventPage((), newest(txn))
    rows = txn.rows(_SQL["history"], (int(cursor) if cursor else 0, _SEEN_PER_CALL + 1))
    found: list[Event] = []
    last = None
    for seq, data in rows[:_SEEN_PER_CALL]:
        last = seq
        event = _event(seq, data)
        if event is not None and where.matches(event):
            found.append(event)
            if len(found) == limit:
                break
    if last is None:
        return EventPage((), cursor or newest(txn))
    return EventPage(tuple(found), str(last), more=rows[-1][0] != last)


def _event(seq: int, data: bytes) -> Event | None:
    """Read an event; None for one that was edited by hand."""
    try:
        return msgspec.structs.replace(_decode(data), cursor=str(seq))
    except (msgspec.DecodeError, TypeError):
        return None


# --- retention ------------------------------------------------------------------------------------
def forget(txn: Transaction, batch: int) -> bool:
    """Drop what is past its retention, so many rows of each at most; return whether there is more."""
    return batch in (_forget_rollups(txn, batch), _forget_history(txn, batch))


def _forget_rollups(txn: Transaction, batch: int) -> int:
    oldest = minute_of(txn.now) - KEEP_ROLLUP_MINUTES
    first = txn.row(_SQL["first_minute"])
    if first is None or first[0] > oldest:
        return 0
    return len(txn.rows(_SQL["forget_rollups"], (oldest, batch)))


def _forget_history(txn: Transaction, batch: int) -> int:
    begun_before = txn.now - KEEP_HISTORY_S
    surplus_to = int(newest(txn)) - MAX_HISTORY
    first = txn.row(_SQL["oldest"], (1,))
    if first is None or (first[0] > surplus_to and first[1] > begun_before):
        return 0
    old = 0
    for seq, at in txn.rows(_SQL["oldest"], (batch,)):
        if seq > surplus_to and at > begun_before:
            break
        old, last = old + 1, seq
    txn.execute(_SQL["forget_history"], (last,))
    return old
