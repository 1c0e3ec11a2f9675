"""Gives the tables that every job passes through a fresh part when the one in use has grown.

Rows that are added and removed leave dead ones behind, and an open snapshot of anybody in the database
keeps vacuum from removing them. A part in which nearly nothing lives any more is copied and truncated
instead: that needs no vacuum. A part that a long transaction has touched is left alone until it ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

import psycopg

from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.wire import Link

_SQL: Final = statements("turn")
#: Whoever waits behind us for a lock waits no longer than this.
PATIENCE: Final = _SQL["patience"]
_TABLES: Final = ("ready", "run", "delta", "came", "holder")
_PARTS: Final = range(4)

#: After so many jobs that a process took, it looks whether a part has grown.
TURN_EVERY: Final = 2000
#: A part is left when it has grown to this: some thousand dead rows, which claims have to pass over.
_FULL_BYTES: Final = 128 << 10
#: So many rows are copied at most, while everybody waits.
_MOST_COPIED: Final = 1_000


def turn(link: Link, begin: Callable[[], object]) -> None:
    """Leave the parts that have grown, and empty those that were left; outside a transaction."""
    *grown, bells = _grown(link, begin)
    for table, has_grown in zip(_TABLES, grown, strict=True):
        if has_grown:
            whole(link, partial(_turn_one, link, begin, table))
    if bells:
        whole(link, partial(_renew_bells, link, begin))


def _grown(link: Link, begin: Callable[[], object]) -> list[bool]:
    """Return for each table, and for the bells, whether there is something to do; one look at all."""
    begin()
    tables = link.execute(_ALL_SIZES).fetchall()
    [(bells_bytes,)] = link.execute(_SQL["bells_bytes"]).fetchall()
    link.execute("COMMIT")
    return [
        any(size for part, size in enumerate(sizes) if part != current) or sizes[current] >= _FULL_BYTES
        for current, *sizes in tables
    ] + [bells_bytes >= _FULL_BYTES]


def whole(link: Link, work: Callable[[], object]) -> None:
    """Do it, or leave it for the next time where somebody is in the way."""
    with contextlib.suppress(psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        work()
    if link.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        link.execute("ROLLBACK")


def _turn_one(link: Link, begin: Callable[[], object], table: str) -> None:
    begin()
    current, sizes = _sizes(link, table)
    left = [part for part in _others(current) if sizes[part]]
    is_full = sizes[current] >= _FULL_BYTES
    if (left or is_full) and _is_alone(link):
        # First, and it stands whatever follows: a sequence knows no rollback.
        has_moved = is_full and _move_on(link, table)
        if left:
            _empty_some(link, table, left)
        if is_full and not has_moved:
            _move_on(link, table)
    link.execute("COMMIT")


def _move_on(link: Link, table: str) -> bool:
    """Have new rows go into an empty part; return whether there was one.

    What is left now is emptied in the next round, when its last jobs have gone through.
    """
    current, sizes = _sizes(link, table)
    free = [part for part in _others(current) if not sizes[part]]
    if free:
        link.execute(_of("next", table), {"part": free[0]})
    return bool(free)


def _others(current: int) -> list[int]:
    """Return the parts beside the current one, in the order in which their turn comes."""
    return [(current + step) % len(_PARTS) for step in _PARTS[1:]]


def _sizes(link: Link, table: str) -> tuple[int, list[int]]:
    [(current, *sizes)] = link.execute(_of("sizes", table)).fetchall()
    return current, sizes


def _is_alone(link: Link) -> bool:
    [(is_alone,)] = link.execute(_SQL["alone"]).fetchall()
    return bool(is_alone)


def _empty_some(link: Link, table: str, parts: list[int]) -> None:
    """Empty the first part that can be, without keeping others waiting for long."""
    link.execute(PATIENCE)
    for part in parts:
        name = f"{table}_{part}"
        if _living(link, name) > _MOST_COPIED or is_held(link, name):
            continue
        link.execute(_of("lock", name))
        living = _living(link, name)
        if living > _MOST_COPIED:
            continue
        if living:
            link.execute(_of(f"copy_{table}", name))
        link.execute(_of("empty", name))
        return


def _renew_bells(link: Link, begin: Callable[[], object]) -> None:
    """Write those who wait anew where the table of bells has grown by those who came and went."""
    begin()
    [(size_bytes,)] = link.execute(_SQL["bells_bytes"]).fetchall()
    if size_bytes >= _FULL_BYTES and _is_alone(link) and not is_held(link, "bell"):
        link.execute(PATIENCE)
        link.execute(_of("lock", "bell"))
        waiting = link.execute(_SQL["bells"]).fetchall()
        link.execute(_of("empty", "bell"))
        for bell in waiting:
            link.execute(_SQL["bell"], bell)
    link.execute("COMMIT")


def _living(link: Link, part: str) -> int:
    [(living,)] = link.execute(_of("living", part), {"limit": _MOST_COPIED + 1}).fetchall()
    return int(living)


def is_held(link: Link, part: str) -> bool:
    """Return whether a transaction that is not short has touched a table."""
    [(is_held,)] = link.execute(_of("is_held", part)).fetchall()
    return bool(is_held)


def _of(statement: str, name: str) -> str:
    return _SQL[statement].replace("PART", name).replace("TABLE_", f"{name}_")


_ALL_SIZES: Final = " UNION ALL ".join(_of("sizes", table) for table in _TABLES)
