"""Reservations in explanations: whom a job waits for where a workflow keeps units of a worker."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from cicely.core.job import Job
from cicely.core.reservations import Reservation, drawn
from cicely.engines.contract import Surroundings
from cicely.observe.words import Detail, by, session_names, span

#: So many workflows are named in a sentence.
_NAMED: Final = 3


def drawable(around: Surroundings) -> dict[str, Reservation]:
    """Return the reservations that a job is to draw from, by worker; none where it is placed anywhere."""
    job = around.job
    wants = job.flow.resources if job.flow else ()
    return {
        one.worker: one
        for one in around.reserved
        if job.workflow and one.workflow == job.workflow and drawn(wants, one)
    }


def keepers_of(around: Surroundings, resource: str) -> list[Reservation]:
    """Return the reservations that have something left of a resource, which others cannot have."""
    return [one for one in around.reserved if any(one.left.get(resource, {}).values())]


def reserved_by(around: Surroundings, keepers: Sequence[Reservation]) -> str:
    """Return which workflows keep something, as the end of a sentence."""
    if not keepers:
        return ""
    named = [f"workflow {one.workflow} for {span(around.now - one.since)}" for one in keepers[:_NAMED]]
    more = f" and {len(keepers) - _NAMED} more" if len(keepers) > _NAMED else ""
    return f"; reserved by {', '.join(named)}{more}"


def listed_keeper(one: Reservation) -> Detail:
    """Return a reservation as a detail."""
    units: dict[str, Detail] = {name: dict(units) for name, units in one.units.items()}
    return {
        "workflow": one.workflow,
        "worker": one.worker,
        "job": one.job_id,
        "since": one.since,
        "units": units,
    }


def waits_for_its_own(around: Surroundings, able_workers: Collection[str]) -> str:
    """Return why a job does not run where its workflow has reserved what it wants."""
    job, mine = around.job, drawable(around)
    names = session_names(around)
    what = ", ".join(sorted({name for one in mine.values() for name in _drawn_of(job, one)}))
    where = ", ".join(names.get(worker, worker) for worker in mine)
    return f"its workflow {job.workflow} has reserved {what} on {where}, and {_why(around, able_workers)}"


def _why(around: Surroundings, able_workers: Collection[str]) -> str:
    mine = drawable(around)
    if not able_workers:
        return "no session there could run it"
    there = {one.session.id for one in around.sessions if one.session.worker in mine}
    users = [
        holder
        for session_id in sorted(there)
        for holder in around.taken.get(session_id, ())
        if any(name in holder.units for one in mine.values() for name in _drawn_of(around.job, one))
    ]
    return f"it is used there{by(around, users)}" if users else "the rest that it wants is not free there"


def _drawn_of(job: Job, one: Reservation) -> tuple[str, ...]:
    return drawn(job.flow.resources if job.flow else (), one)
