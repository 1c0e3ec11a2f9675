"""The resources of a worker, as a claim of one of its sessions finds them."""

from __future__ import annotations

from typing import Final

import msgspec

from cicely.core.resources import PATIENCE_S, Amounts, Wants, free, place
from cicely.engines.contract import Session
from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.limiting import read_flow
from cicely.engines.sqlite.openings import opening
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction, Values

_SQL: Final = statements("valve")

_decode = msgspec.msgpack.Decoder(dict[str, dict[str, float]]).decode
_encode = msgspec.msgpack.Encoder().encode


def units_in(stored: bytes | None) -> dict[str, dict[str, float]]:
    """Read which units a claim has; none where that was edited by hand."""
    if stored is None:
        return {}
    try:
        return _decode(stored)
    except (msgspec.DecodeError, TypeError):
        return {}


class Room:
    """What a worker has left, and the job that it passed over for want of it."""

    def __init__(self, txn: Transaction, session: Session) -> None:
        self._txn = txn
        self._session = session
        taken = [units_in(stored) for (stored,) in txn.rows(_SQL["taken"], (session.worker,))]
        self._left = free(session.offers, taken)
        #: The job that waits for room, since when, its stream and flow, and whether its queue is paused.
        self._first: Values | None = txn.row(_SQL["passed_over"], (session.worker,))

    def units_for(self, wants: Wants, row: Values) -> dict[str, dict[str, float]] | None:
        """Return which units a job of `heads` gets; None where they are not free, or kept for another."""
        placed = place(wants, self._left, self._session.offers)
        if placed is None:
            self._pass_over(row)
            return None
        return None if self._keeps_free(wants, row[15]) else placed

    def has(self, wants: Wants) -> bool:
        """Return whether so much is free."""
        return place(wants, self._left, self._session.offers) is not None

    def _pass_over(self, row: Values) -> None:
        if self._first is None:
            self._first = (row[1], self._txn.now, row[15], row[14], 0)
            self._txn.execute(_SQL["pass_over"], (self._session.worker, row[1], self._txn.now))

    def _keeps_free(self, wants: Wants, stream: int) -> bool:
        """Return whether it keeps free, for a job that it passed over for long, what this one wants."""
        if self._first is None:
            return False
        _, since, its_stream, flow, is_paused = self._first
        if stream == its_stream or self._txn.now < since + PATIENCE_S:
            # It is the one, or goes before it.
            return False
        if is_paused or opening(gates_of(self._txn), flow) is not None:
            # It would not start if there were room.
            return False
        names = {name for name, _ in read_flow(flow)[0].resources}
        return any(name in names for name, _ in wants)

    def take(self, n: int, units: Amounts) -> None:
        """Note what a job has got."""
        self._left = free(self._left, [units])
        if self._first is not None and self._first[0] == n:
            self._first = None
        self._txn.execute(_SQL["waited_for"], (n,))
        self._txn.execute(_SQL["take_units"], (n, self._session.worker, _encode(units)))
