"""Who waits at limits: core/patience.py, asked about the tables of one call."""

from __future__ import annotations

from typing import Final

from cicely.core.flow import Use
from cicely.core.limits import Gauge, Waiter
from cicely.core.patience import Standing
from cicely.core.valves import Valve
from cicely.engines.sqlite.gates import Gates
from cicely.engines.sqlite.limiting import read_flow
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction

_SQL: Final = statements("stream")


class Waiters:
    """What the rule asks of a call."""

    def __init__(self, txn: Transaction, gates: Gates) -> None:
        self._txn = txn
        self._valves = gates.valves
        self.now = txn.now

    def valve_of(self, key: str) -> Valve:
        """Return what guards a key."""
        return self._valves.guard(key).valve

    def gauge_of(self, key: str) -> Gauge:
        """Return where a valve stands."""
        return self._valves.guard(key).gauge

    def opens_at(self, use: Use) -> float:
        """Return when a valve lets a job pass."""
        return self._valves.opens_at(use)

    def holders_of(self, key: str) -> int:
        """Return how many hold a key."""
        return self._valves.held(key)

    def standing(self, n: int) -> Standing | None:
        """Return a job that could be claimed but for what it passes; None for any other."""
        row = self._txn.row(_SQL["waiter"], (n, self.now))
        return None if row is None else Standing(row[0], read_flow(row[1])[1])

    def put_first(self, key: str, first: Waiter | None) -> None:
        """Note who waits for a limit."""
        self._valves.put_first(key, first)
