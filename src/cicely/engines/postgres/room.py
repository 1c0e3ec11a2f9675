"""The resources of a worker, as a claim of one of its sessions finds them."""

from __future__ import annotations

from typing import Final

import msgspec

from cicely.core.resources import PATIENCE_S, Amounts, Wants, free, place
from cicely.engines.contract import Session
from cicely.engines.postgres.gates import Gates
from cicely.engines.postgres.limiting import encoded, read_flow
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction, Values

_SQL: Final = statements("valve")

_decode = msgspec.msgpack.Decoder(dict[str, dict[str, float]]).decode


def units_in(stored: bytes | None) -> dict[str, dict[str, float]]:
    """Read which units a claim has; none where that was edited by hand."""
    if stored is None:
        return {}
    try:
        return _decode(stored)
    except (msgspec.DecodeError, TypeError):
        return {}


def left_of(txn: Transaction, session: Session) -> dict[str, dict[str, float]]:
    """Return what a session's worker has left."""
    taken = txn.rows(_SQL["taken"], {"worker": session.worker}) if session.offers else ()
    return free(session.offers, [units_in(stored) for (stored,) in taken])


class Room:
    """What a worker has left, and the job that it passed over for want of it."""

    def __init__(self, txn: Transaction, gates: Gates, session: Session) -> None:
        self._txn = txn
        self._gates = gates
        self._session = session
        self._is_read = False
        self._left: Amounts = {}
        #: The job that waits for room, since when, its flow, whether its queue is paused, and its stream.
        self._first: Values | None = None
        self._taken: list[tuple[int, bytes]] = []

    def _read(self) -> None:
        if not self._is_read:
            self._is_read = True
            self._left = left_of(self._txn, self._session)
            self._first = self._txn.row(_SQL["passed_over"], {"worker": self._session.worker})

    def units_for(self, wants: Wants, row: Values) -> dict[str, dict[str, float]] | None:
        """Return which units a job gets; None where they are not free, or kept for another.

        `row` ends with the job's flow and its stream.
        """
        self._read()
        placed = place(wants, self._left, self._session.offers)
        if placed is None:
            self._pass_over(row)
            return None
        return None if self._keeps_free(wants, row[-1]) else placed

    def has(self, wants: Wants) -> bool:
        """Return whether so much is free."""
        self._read()
        return place(wants, self._left, self._session.offers) is not None

    def _pass_over(self, row: Values) -> None:
        if self._first is None:
            self._first = (row[1], self._txn.now, row[-2], False, row[-1])
            where = {"worker": self._session.worker, "n": row[1], "now": self._txn.now}
            self._txn.execute(_SQL["pass_over"], where)

    def _keeps_free(self, wants: Wants, stream: int) -> bool:
        """Return whether it keeps free what one of a stream wants, for a job that it passed over for long."""
        if self._first is None:
            return False
        _, since, flow, is_paused, of_stream = self._first
        if of_stream == stream or self._txn.now < since + PATIENCE_S:
            # Of its own stream: it is the one, or goes before it.
            return False
        if is_paused or self._gates.valves.opening(flow) is not None:
            # It would not start if there were room.
            return False
        names = {name for name, _ in read_flow(flow)[0].resources}
        return any(name in names for name, _ in wants)

    def take(self, n: int, units: Amounts) -> None:
        """Note what a job has got."""
        self._left = free(self._left, [units])
        if self._first is not None and self._first[0] == n:
            self._first = None
        self._taken.append((n, encoded(units)))

    def write(self) -> None:
        """Store what was taken."""
        taken, self._taken = self._taken, []
        if taken:
            ns, units = (list(column) for column in zip(*taken, strict=True))
            self._txn.execute(_SQL["take_units"], {"ns": ns, "units": units, "worker": self._session.worker})
            # Should one come back, it is waited for anew.
            self._txn.execute(_SQL["is_taken"], {"ns": ns})
