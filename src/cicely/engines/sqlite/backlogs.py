"""Bounds of backlogs: how many jobs of a key may be ready."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.flow import QUEUE_PREFIX
from cicely.core.job import NewJob
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import READY, Transaction
from cicely.errors import BacklogFull

_SQL: Final = statements("valve")


def check_backlogs(txn: Transaction, fresh: Sequence[NewJob]) -> None:
    """Raise BacklogFull where more jobs of a key would be ready than its limit allows."""
    wanted: dict[str, int] = {}
    for new in fresh:
        for key in {QUEUE_PREFIX + new.queue, *(use.key for use in (new.flow.uses if new.flow else ()))}:
            wanted[key] = wanted.get(key, 0) + 1
    if wanted:
        txn.write_gates()
    for key, count in wanted.items():
        row = txn.row(_SQL["backlog"], (key,))
        if row is None:
            continue
        backlog, ready = row
        if key.startswith(QUEUE_PREFIX):
            ready = _ready_in(txn, key.removeprefix(QUEUE_PREFIX))
        if ready + count > backlog:
            raise BacklogFull(
                f"{ready} jobs of {key} are ready and its backlog may hold {backlog}: "
                f"{count} more are refused; send them again when some have started"
            )


def _ready_in(txn: Transaction, queue: str) -> int:
    row = txn.row(_SQL["ready_in_queue"], (queue, READY))
    return int(row[0] if row else 0) + txn.counted(txn.names.queue_id(queue), READY)
