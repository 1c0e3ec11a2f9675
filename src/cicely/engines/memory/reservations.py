"""What workflows have reserved on workers, in the memory engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from cicely.core.reservations import Reservation, added, drawn, only, without
from cicely.core.resources import Amounts
from cicely.engines.memory.rows import Row


class Reservations:
    """One for each workflow and worker; what is drawn of them stands with the claims."""

    def __init__(self, held: Mapping[bytes, Row]) -> None:
        self._held = held
        self._kept: dict[tuple[str, str], Reservation] = {}

    # --- looking --------------------------------------------------------------------------
    def all(self) -> list[Reservation]:
        """Return all, by worker and workflow, with what is drawn of each."""
        return sorted(map(self._with_use, self._kept.values()), key=lambda one: (one.worker, one.workflow))

    def has_some_for(self, row: Row) -> bool:
        """Return whether a job's workflow has reserved any resource that the job wants."""
        wants = row.new.flow.resources if row.new.flow else ()
        return any(name in one.units for one in self._of(row.new.workflow) for name, _ in wants)

    def drawn_by(self, row: Row) -> dict[str, Reservation]:
        """Return the reservations that a ready job is to draw from, by worker; else it is placed anywhere."""
        wants = row.new.flow.resources if row.new.flow and row.draws else ()
        return {one.worker: self._with_use(one) for one in self._of(row.new.workflow) if drawn(wants, one)}

    def left_on(self, worker: str) -> list[Amounts]:
        """Return what is reserved on a worker and drawn by no job."""
        return [self._with_use(one).left for one in self._kept.values() if one.worker == worker]

    def _of(self, workflow: str) -> list[Reservation]:
        return [one for one in self._kept.values() if workflow and one.workflow == workflow]

    def _with_use(self, one: Reservation) -> Reservation:
        draws = [
            only(row.units, row.drawn)
            for row in self._held.values()
            if row.drawn and row.new.workflow == one.workflow and row.worker == one.worker
        ]
        return msgspec.structs.replace(one, used=added(*draws))

    # --- beginning and ending -------------------------------------------------------------
    def keep(self, row: Row, names: Collection[str], *, offers: Amounts, now: float) -> None:
        """Reserve what a claim holds of these resources for its workflow; it draws that until it ends."""
        fresh = only(row.units, [name for name in names if name not in row.drawn])
        if not fresh or not row.new.workflow:
            return
        key = (row.new.workflow, row.worker)
        began = self._kept.get(key) or Reservation(*key, row.id, now, {}, offers=offers)
        self._kept[key] = msgspec.structs.replace(began, units=added(began.units, fresh))
        row.drawn |= fresh.keys()

    def free(self, workflow: str, names: Collection[str]) -> None:
        """End a workflow's reservations of these resources; what running jobs drew is now theirs."""
        for one in self._of(workflow):
            self._put(msgspec.structs.replace(one, units=without(one.units, names)))
        for row in self._held.values():
            if row.new.workflow == workflow:
                row.drawn = frozenset(without(only(row.units, row.drawn), names))

    def _put(self, one: Reservation) -> None:
        self._kept[one.workflow, one.worker] = one
        if not one.units:
            del self._kept[one.workflow, one.worker]

    def end_on(self, worker: str) -> None:
        """End those on a worker that has no session any more."""
        self._kept = {key: one for key, one in self._kept.items() if one.worker != worker}

    def end_first(self, live: Iterable[str], batch: int) -> int:
        """End at most `batch` of those whose workflow is not among the `live`; return how many."""
        stay = set(live)
        over = [key for key in sorted(self._kept) if key[0] not in stay][:batch]
        for key in over:
            del self._kept[key]
        return len(over)
