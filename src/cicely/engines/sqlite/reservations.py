"""What workflows have reserved on workers: see core/reservations.py."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from cicely.core.flow import Needs
from cicely.core.reservations import Reservation, added, drawn, only, without
from cicely.core.resources import Amounts, Wants
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction

_SQL: Final = statements("reserve")

_decode = msgspec.msgpack.Decoder(dict[str, dict[str, float]]).decode
_decode_names = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_encode = msgspec.msgpack.Encoder().encode

_Place = tuple[str, str]


class Held(NamedTuple):
    """A claim that has units of its worker: its job, its worker's offers, the workflow of the job."""

    n: int
    job_id: str
    workflow: str
    offers: Amounts


class Reservations:
    """Those of one transaction, read once; what running jobs draw of them stands with their claims."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._known: dict[_Place, Reservation] | None = None

    def _kept(self) -> dict[_Place, Reservation]:
        """Return all by workflow and worker, in the order of workers, then of workflows."""
        if self._known is None:
            self._known = {
                (workflow, worker): Reservation(
                    workflow, worker, job_id, since, units_in(units), offers=units_in(offers)
                )
                for workflow, worker, job_id, since, units, offers in self._txn.rows(_SQL["all"])
            }
        return self._known

    def _of(self, workflow: str) -> list[Reservation]:
        return [one for one in self._kept().values() if one.workflow == workflow]

    # --- looking --------------------------------------------------------------------------
    def all(self) -> list[Reservation]:
        """Return all, by worker and workflow, with what is drawn of each."""
        return [self._with_use(one) for one in self._kept().values()]

    def has_some_for(self, workflow: str, wants: Wants) -> bool:
        """Return whether a workflow has reserved any resource that a job of it wants."""
        return any(name in one.units for one in self._of(workflow) for name, _ in wants)

    def drawn_by(self, needs: Needs) -> dict[str, Reservation]:
        """Return the reservations that ready jobs are to draw from, by worker; none: they go anywhere."""
        if not needs.draws:
            return {}
        found = (one for one in self._of(needs.draws) if drawn(needs.resources, one))
        return {one.worker: self._with_use(one) for one in found}

    def left_on(self, worker: str) -> list[Amounts]:
        """Return what is reserved on a worker and drawn by no job."""
        return [self._with_use(one).left for one in self._kept().values() if one.worker == worker]

    def _with_use(self, one: Reservation) -> Reservation:
        rows = self._txn.rows(_SQL["used"], (one.workflow, one.worker))
        draws = [only(units_in(units), _names_in(names)) for units, names in rows]
        return msgspec.structs.replace(one, used=added(*draws))

    # --- beginning and ending -------------------------------------------------------------
    def keep(self, held: Held, names: Collection[str]) -> bool:
        """Reserve what a claim holds of these resources, and does not draw; return whether it does."""
        row = self._txn.row(_SQL["held"], (held.n,))
        if row is None:
            return False
        worker, units, stored = row
        was_drawn = _names_in(stored)
        fresh = only(units_in(units), [name for name in names if name not in was_drawn])
        if not fresh:
            return False
        began = self._kept().get((held.workflow, worker)) or Reservation(
            held.workflow, worker, held.job_id, self._txn.now, {}, offers=held.offers
        )
        self._put(msgspec.structs.replace(began, units=added(began.units, fresh)))
        return True

    def free(self, workflow: str, names: Collection[str]) -> None:
        """End a workflow's reservations of these resources; what running jobs drew is now theirs."""
        for one in self._of(workflow):
            self._put(msgspec.structs.replace(one, units=without(one.units, names)))
        for n, stored in self._txn.rows(_SQL["drawn_in"], (workflow,)):
            left = without({name: {} for name in _names_in(stored)}, names)
            self._txn.execute(_SQL["draw"], (n, stored_names(left)))

    def _put(self, one: Reservation) -> None:
        if not one.units:
            self._end((one.workflow, one.worker))
            return
        units, offers = _encode(one.units), _encode(one.offers)
        self._txn.execute(_SQL["keep"], (one.workflow, one.worker, one.job_id, one.since, units, offers))
        self._known = None

    def _end(self, place: _Place) -> None:
        self._txn.execute(_SQL["end"], place)
        self._known = None

    def end_on(self, worker: str) -> None:
        """End those on a worker that has no session any more."""
        for place in [place for place in self._kept() if place[1] == worker]:
            self._end(place)

    def end_first(self, batch: int) -> int:
        """End at most `batch` of those whose workflow has no live job; return how many."""
        over = self._txn.rows(_SQL["over"], (batch,)) if self._kept() else []
        for place in over:
            self._end(place)
        return len(over)


def units_in(stored: bytes | None) -> dict[str, dict[str, float]]:
    """Read which units stand somewhere; none where that was edited by hand."""
    if stored is None:
        return {}
    try:
        return _decode(stored)
    except (msgspec.DecodeError, TypeError):
        return {}


def stored_names(names: Collection[str]) -> bytes | None:
    """Return the names of resources as they are stored; None for none."""
    return _encode(tuple(names)) if names else None


def _names_in(stored: bytes | None) -> tuple[str, ...]:
    try:
        return () if stored is None else _decode_names(stored)
    except (msgspec.DecodeError, TypeError):
        return ()
