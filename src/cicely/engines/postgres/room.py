"""The resources of a worker, as a claim of one of its sessions finds them."""

from __future__ import annotations

from typing import Final

from cicely.core.flow import Needs
from cicely.core.reservations import Reservation, drawn, only, place_drawing, without
from cicely.core.resources import Amounts, free, is_kept, place
from cicely.engines.contract import Session
from cicely.engines.postgres.gates import Gates
from cicely.engines.postgres.limiting import encoded, read_flow
from cicely.engines.postgres.reservations import Reservations
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.streams import wants_of
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.units import stored_names, units_in
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("valve")


class Left:
    """What a session's worker has left, for whom: read when it is first asked for."""

    def __init__(self, txn: Transaction, session: Session) -> None:
        self._txn = txn
        self._session = session
        self._reservations: Reservations | None = None
        self._left: Amounts = {}

    def reservations(self) -> Reservations:
        """Return what is reserved, with what jobs draw of it."""
        if self._reservations is None:
            txn, session = self._txn, self._session
            self._reservations = Reservations(txn)
            taken = [units_in(stored) for (stored,) in txn.rows(_SQL["taken"], {"worker": session.worker})]
            self._left = free(session.offers, taken + self._reservations.left_on(session.worker))
        return self._reservations

    def placed(self, needs: Needs) -> dict[str, dict[str, float]] | None:
        """Return which units a job would get, None where they are not free.

        A job that draws runs where its workflow has reserved, and nowhere else.
        """
        session = self._session
        reserved = self.reservations().drawn_by(needs)
        if not reserved:
            return place(needs.resources, self._left, session.offers)
        if session.worker not in reserved:
            return None
        return place_drawing(needs.resources, self._left, session.offers, reserved[session.worker])

    def take(self, needs: Needs, units: Amounts) -> tuple[str, ...]:
        """Note what a job has got; return which of the resources it draws."""
        reservations = self.reservations()
        one: Reservation | None = reservations.drawn_by(needs).get(self._session.worker)
        names = drawn(needs.resources, one) if one is not None else ()
        if one is not None:
            reservations.draw(one, only(units, names))
        self._left = free(self._left, [without(units, names)])
        return names


class Room:
    """What a worker has left, and the job that it passed over for want of it."""

    def __init__(self, txn: Transaction, gates: Gates, session: Session) -> None:
        self._txn = txn
        self._gates = gates
        self._session = session
        self._is_read = False
        self._left = Left(txn, session)
        #: The job that waits for room, since when, its flow, whether its queue is paused, and its stream.
        self._first: Values | None = None
        #: Of those taken: its number, its units, its workflow where it draws, and what.
        self._taken: list[tuple[int, bytes, str | None, bytes | None]] = []

    def _read(self) -> Left:
        if not self._is_read:
            self._is_read = True
            first = self._txn.row(_SQL["passed_over"], {"worker": self._session.worker})
            # Nobody waits for one that draws by now: what it wants is reserved for it.
            if first is not None and not self._left.reservations().drawn_by(wants_of(first[-1])):
                self._first = first[:-1]
        return self._left

    def units_for(self, needs: Needs, row: Values) -> dict[str, dict[str, float]] | None:
        """Return which units a job gets; None where they are not free, or kept for another.

        `row` ends with the job's flow and its stream.
        """
        left = self._read()
        placed = left.placed(needs)
        if left.reservations().drawn_by(needs):
            # Who draws is not waited for, and waits for nobody.
            return placed
        if placed is None:
            self._pass_over(row)
            return None
        return None if self._keeps_free(needs, row[-1]) else placed

    def has(self, needs: Needs) -> bool:
        """Return whether so much is free for such a job."""
        return self._read().placed(needs) is not None

    def _pass_over(self, row: Values) -> None:
        if self._first is None:
            self._first = (row[1], self._txn.now, row[-2], False, row[-1])
            where = {"worker": self._session.worker, "n": row[1], "now": self._txn.now}
            self._txn.execute(_SQL["pass_over"], where)

    def _keeps_free(self, needs: Needs, stream: int) -> bool:
        """Return whether it keeps free what one of a stream wants, for a job that it passed over for long."""
        if self._first is None:
            return False
        _, since, flow, is_paused, of_stream = self._first
        if of_stream == stream:
            # It is the one, or goes before it.
            return False
        if not is_kept(needs.resources, read_flow(flow)[0].resources, since=since, now=self._txn.now):
            return False
        # It is one that would start if there were room.
        return not is_paused and self._gates.valves.opening(flow) is None

    def take(self, n: int, needs: Needs, units: Amounts) -> None:
        """Note what a job has got."""
        names = self._left.take(needs, units)
        if self._first is not None and self._first[0] == n:
            self._first = None
        workflow = needs.draws if names else None
        self._taken.append((n, encoded(units), workflow, stored_names(names)))

    def write(self) -> None:
        """Store what was taken."""
        taken, self._taken = self._taken, []
        if taken:
            columns = zip(
                ("ns", "units", "workflows", "drawn"), map(list, zip(*taken, strict=True)), strict=True
            )
            where = dict(columns)
            self._txn.execute(_SQL["take_units"], where | {"worker": self._session.worker})
            # Should one come back, it is waited for anew.
            self._txn.execute(_SQL["is_taken"], {"ns": where["ns"]})
