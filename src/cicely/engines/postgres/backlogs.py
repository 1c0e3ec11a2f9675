"""Bounds of backlogs: how many jobs of a key may be ready.

Who enqueues waits for nobody: callers at the same moment do not see each other's jobs, so a bound may be
exceeded by what they have on their way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.flow import QUEUE_PREFIX
from cicely.core.job import NewJob
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.errors import BacklogFull

_SQL: Final = statements("valve")


def check_backlogs(txn: Transaction, fresh: Sequence[NewJob]) -> None:
    """Raise BacklogFull where more jobs of a key would be ready than its limit allows."""
    wanted: dict[str, int] = {}
    for new in fresh:
        for key in {QUEUE_PREFIX + new.queue, *(use.key for use in (new.flow.uses if new.flow else ()))}:
            wanted[key] = wanted.get(key, 0) + 1
    for key, valve, backlog in txn.rows(_SQL["backlogs"], {"keys": list(wanted)}):
        if key.startswith(QUEUE_PREFIX):
            [(ready,)] = txn.rows(_SQL["ready_in_queue"], {"name": key.removeprefix(QUEUE_PREFIX)})
        else:
            [(ready,)] = txn.rows(_SQL["ready_of_key"], {"valve": valve, "limit": backlog + 1})
        if ready + wanted[key] > backlog:
            raise BacklogFull(
                f"{ready} jobs of {key} are ready and its backlog may hold {backlog}: "
                f"{wanted[key]} more are refused; send them again when some have started"
            )
