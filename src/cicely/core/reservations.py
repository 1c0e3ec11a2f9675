"""What a workflow keeps of a worker between its jobs: who may have it, how much, and until when.

A job that succeeds may keep units of its worker for its workflow. Later jobs of the workflow that want
them run on that worker and *draw* them from the reservation, which has them back when they end. It ends
when a job of the workflow frees it, with the last session of its worker, or, by a sweep, when no job of the
workflow is live.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from cicely.core.resources import Amounts, Wants, fits, free, place

#: Among the names that an outcome frees: all that is reserved. No resource has this name.
EVERYTHING: Final = ""


class Reservation(msgspec.Struct, frozen=True):
    """What a workflow has reserved on a worker.

    `job_id` is the job that began it, at `since`; what others keep on the same worker adds to `units`.
    `used` is what running jobs draw of it now. `offers` is what the worker had when it began.
    """

    workflow: str
    worker: str
    job_id: str
    since: float
    units: Amounts
    used: Amounts = {}
    offers: Amounts = {}

    @property
    def left(self) -> Amounts:
        """What no job draws now; names and units of which nothing is left are there with zero."""
        return free(self.units, [self.used])


def drawn(wants: Wants, reservation: Reservation) -> tuple[str, ...]:
    """Return which of the resources that a job wants come out of a reservation of its workflow.

    None of them where it wants more of one than is reserved, or what the worker never has: then the
    job is placed as if there were no reservation.
    """
    reserved = tuple((name, amount) for name, amount in wants if name in reservation.units)
    if place(reserved, reservation.units, reservation.offers) is None or not fits(wants, reservation.offers):
        return ()
    return tuple(name for name, _ in reserved)


def place_drawing(
    wants: Wants, left: Amounts, offers: Amounts, reservation: Reservation
) -> dict[str, dict[str, float]] | None:
    """Return which units a job gets that draws what is reserved, and has the rest of what is `left`."""
    names = drawn(wants, reservation)
    own = {name: reservation.left[name] for name in names}
    at_first = {name: reservation.offers[name] for name in names}
    return place(wants, {**left, **own}, {**offers, **at_first})


def added(*amounts: Amounts) -> dict[str, dict[str, float]]:
    """Return the sums, by resource and unit."""
    sums: dict[str, dict[str, float]] = {}
    for one in amounts:
        for name, units in one.items():
            of = sums.setdefault(name, {})
            for unit, amount in units.items():
                of[unit] = of.get(unit, 0.0) + amount
    return sums


def only(amounts: Amounts, names: Collection[str]) -> dict[str, dict[str, float]]:
    """Return the amounts of these resources."""
    return {name: dict(units) for name, units in amounts.items() if name in names}


def without(amounts: Amounts, names: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return the amounts of the others than what an outcome frees."""
    gone = set(names)
    return {} if EVERYTHING in gone else {n: dict(units) for n, units in amounts.items() if n not in gone}
