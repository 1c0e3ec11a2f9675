"""The resources of a worker, as a claim of one of its sessions finds them."""

from __future__ import annotations

from typing import Final

import msgspec

from cicely.core.flow import Needs
from cicely.core.reservations import Reservation, drawn, place_drawing, without
from cicely.core.resources import Amounts, free, is_kept, place
from cicely.engines.contract import Session
from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.heads import FLOW, STREAM
from cicely.engines.sqlite.limiting import read_flow
from cicely.engines.sqlite.openings import opening
from cicely.engines.sqlite.reservations import stored_names, units_in
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.streams import wants_of
from cicely.engines.sqlite.transaction import Transaction, Values

_SQL: Final = statements("valve")

_encode = msgspec.msgpack.Encoder().encode


class Room:
    """What a worker has left, and the job that it passed over for want of it: read when somebody asks."""

    def __init__(self, txn: Transaction, session: Session) -> None:
        self._txn = txn
        self._session = session
        self._free: Amounts | None = None
        #: The job that waits for room, since when, its stream and flow, is its queue paused, its wants.
        self._first: Values | None = None

    def _left(self) -> Amounts:
        if self._free is None:
            txn, worker = self._txn, self._session.worker
            taken = [units_in(stored) for (stored,) in txn.rows(_SQL["taken"], (worker,))]
            reserved = gates_of(txn).reservations.left_on(worker)
            self._free = free(self._session.offers, taken + reserved)
            first = txn.row(_SQL["passed_over"], (worker,))
            # Nobody waits for one that draws by now: what it wants is reserved for it.
            self._first = None if first is None or self._drawn_by(wants_of(first[5])) else first
        return self._free

    def _drawn_by(self, needs: Needs) -> dict[str, Reservation]:
        return gates_of(self._txn).reservations.drawn_by(needs)

    def units_for(self, needs: Needs, row: Values) -> dict[str, dict[str, float]] | None:
        """Return which units a job of `heads` gets; None where they are not free, or kept for another."""
        reserved = self._drawn_by(needs)
        placed = self._placed(needs, reserved)
        if reserved:
            # Who draws is not waited for, and waits for nobody.
            return placed
        if placed is None:
            self._pass_over(row)
            return None
        return None if self._keeps_free(needs, row[STREAM]) else placed

    def has(self, needs: Needs) -> bool:
        """Return whether so much is free for such a job."""
        return self._placed(needs, self._drawn_by(needs)) is not None

    def _placed(self, needs: Needs, reserved: dict[str, Reservation]) -> dict[str, dict[str, float]] | None:
        left, session = self._left(), self._session
        if not reserved:
            return place(needs.resources, left, session.offers)
        if session.worker not in reserved:
            return None
        return place_drawing(needs.resources, left, session.offers, reserved[session.worker])

    def _pass_over(self, row: Values) -> None:
        if self._first is None:
            self._first = (row[1], self._txn.now, row[STREAM], row[FLOW], 0, b"")
            self._txn.execute(_SQL["pass_over"], (self._session.worker, row[1], self._txn.now))

    def _keeps_free(self, needs: Needs, stream: int) -> bool:
        """Return whether it keeps free, for a job that it passed over for long, what this one wants."""
        if self._first is None:
            return False
        _, since, its_stream, flow, is_paused, _ = self._first
        if stream == its_stream:
            # It is the one, or goes before it.
            return False
        if not is_kept(needs.resources, read_flow(flow)[0].resources, since=since, now=self._txn.now):
            return False
        # It is one that would start if there were room.
        return not is_paused and opening(gates_of(self._txn), flow) is None

    def take(self, n: int, needs: Needs, units: Amounts) -> None:
        """Note what a job has got."""
        worker = self._session.worker
        reservation = self._drawn_by(needs).get(worker)
        names = drawn(needs.resources, reservation) if reservation else ()
        self._free = free(self._left(), [without(units, names)])
        if self._first is not None and self._first[0] == n:
            self._first = None
        self._txn.execute(_SQL["waited_for"], (n,))
        workflow = needs.draws if names else None
        self._txn.execute(_SQL["take_units"], (n, worker, _encode(units), workflow, stored_names(names)))
