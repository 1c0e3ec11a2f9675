"""What workflows have reserved on workers: see core/reservations.py."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

import msgspec

from cicely.core.flow import Needs
from cicely.core.reservations import Reservation, added, drawn, only, without
from cicely.core.resources import Amounts
from cicely.engines.postgres.gates import Freed, gates_of
from cicely.engines.postgres.limiting import encoded
from cicely.engines.postgres.member import session_of
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Retry, Transaction
from cicely.engines.postgres.units import names_in, units_in

_SQL: Final = statements("reserve")
_SESSIONS: Final = statements("sessions")

_Place = tuple[str, str]


class Reservations:
    """All there are, as a call reads them once, and what it draws of them."""

    def __init__(self, txn: Transaction) -> None:
        rows = txn.rows(_SQL["all"])
        used = _used(txn) if rows else {}
        self._known = {
            (workflow, worker): Reservation(
                workflow,
                worker,
                job,
                since,
                units_in(units),
                added(*used.get((workflow, worker), ())),
                units_in(offers),
            )
            for workflow, worker, job, since, units, offers in rows
        }

    def all(self) -> list[Reservation]:
        """Return all, by worker and workflow, with what is drawn of each."""
        return list(self._known.values())

    def left_on(self, worker: str) -> list[Amounts]:
        """Return what is reserved on a worker and drawn by no job."""
        return [one.left for one in self._known.values() if one.worker == worker]

    def drawn_by(self, needs: Needs) -> dict[str, Reservation]:
        """Return the reservations that ready jobs are to draw from, by worker; none: they go anywhere."""
        if not needs.draws:
            return {}
        own = (one for one in self._known.values() if one.workflow == needs.draws)
        return {one.worker: one for one in own if drawn(needs.resources, one)}

    def draw(self, one: Reservation, units: Amounts) -> None:
        """Note what a job draws from now on."""
        self._known[one.workflow, one.worker] = msgspec.structs.replace(one, used=added(one.used, units))


def _used(txn: Transaction) -> dict[_Place, list[Amounts]]:
    used: dict[_Place, list[Amounts]] = {}
    for workflow, worker, units, names in txn.rows(_SQL["used"]):
        used.setdefault((workflow, worker), []).append(only(units_in(units), names_in(names)))
    return used


# --- beginning and ending ---------------------------------------------------------------------
class Held(NamedTuple):
    """A claim that may keep something: its job, its worker's offers, the workflow of the job."""

    n: int
    job_id: str
    workflow: str
    offers: Amounts


def own(txn: Transaction, ns: Collection[int]) -> None:
    """Have the workflows of these jobs alone: nobody makes jobs of them ready meanwhile that may draw."""
    txn.rows(_SQL["own"], {"ns": list(ns)})


def keep(txn: Transaction, held: Held, names: Collection[str]) -> bool:
    """Reserve what a claim holds of these resources, and does not draw; return whether it does."""
    row = txn.row(_SQL["held"], {"n": held.n})
    if row is None:
        return False
    worker, units, stored = row
    gates = gates_of(txn)
    was_drawn = _still_drawn(names_in(stored), gates.freed, (held.workflow, worker))
    fresh = only(units_in(units), [name for name in names if name not in was_drawn])
    if not fresh:
        return False
    where = {"workflow": held.workflow, "worker": worker}
    begun = {"job": held.job_id, "since": txn.now, "units": encoded(fresh), "offers": encoded(held.offers)}
    gates.has_reserved = True
    if txn.rows(_SQL["begin"], where | begun):
        return True
    known = txn.row(_SQL["lock"], where)
    if known is None:
        raise Retry
    txn.execute(_SQL["change"], where | {"units": encoded(added(units_in(known[0]), fresh))})
    return True


def _still_drawn(names: Collection[str], freed: Iterable[Freed], place: _Place) -> Collection[str]:
    for one in freed:
        if (one.workflow, one.worker) == place:
            names = without({name: {} for name in names}, one.names)
    return names


def free(txn: Transaction, workflow: str, names: Collection[str]) -> None:
    """End a workflow's reservations of these resources; what running jobs drew is theirs with the commit."""
    for worker, stored in txn.rows(_SQL["lock_all"], {"workflow": workflow}):
        units = units_in(stored)
        left = without(units, names)
        where = {"workflow": workflow, "worker": worker}
        if not left:
            txn.execute(_SQL["end"], where)
        elif left != units:
            txn.execute(_SQL["change"], where | {"units": encoded(left)})
        gates_of(txn).freed.append(Freed(workflow, worker, tuple(names)))


def end_with_worker(txn: Transaction, worker: str) -> None:
    """End what is reserved on a worker, if a session that was closed just now was its last."""
    if txn.row(_SQL["on_worker"], {"worker": worker}) is not None and worker not in _open_workers(txn):
        _end_on(txn, worker)


def _open_workers(txn: Transaction) -> set[str]:
    return {session_of(key, facts).worker for key, facts in txn.rows(_SESSIONS["open_facts"])}


def _end_on(txn: Transaction, worker: str) -> None:
    txn.execute(_SQL["end_on"], {"worker": worker})
    gates_of(txn).has_reserved = True


def end_unused(txn: Transaction, batch: int) -> int:
    """End at most `batch` reservations of workflows of which no job is live; return how many.

    And those of workers whose last sessions were closed at the same moment.
    """
    workers = {worker for _, worker, *_ in txn.rows(_SQL["all"])}
    if not workers:
        return 0
    for worker in sorted(workers - _open_workers(txn)):
        _end_on(txn, worker)
    over = txn.rows(_SQL["over"], {"batch": batch})
    for workflow, worker in over:
        txn.execute(_SQL["end"], {"workflow": workflow, "worker": worker})
        gates_of(txn).has_reserved = True
    return len(over)
