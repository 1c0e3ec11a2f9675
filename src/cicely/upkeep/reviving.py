"""Reviving jobs where their failure began.

An engine revives the job that it is told to. A job that was cancelled because of another, or that
failed by a job which it called or went on as, would meet the same end again: there, what failed
first is revived, and the others follow it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from cicely.core.edge import ParentEnd, Role
from cicely.core.job import Job
from cicely.core.states import State
from cicely.engines.contract import Engine

_PAGE: Final = 100
_PARENTS: Final = 1_000


def revive(engine: Engine, job_ids: Sequence[str], *, reason: str = "") -> list[str]:
    """Revive jobs, each where its failure began; return those of `job_ids` that come back by that."""
    roots = {job_id: _roots(engine, job_id) for job_id in dict.fromkeys(job_ids)}
    wanted = list(dict.fromkeys(root for found in roots.values() for root in found))
    moved: set[str] = set()
    for start in range(0, len(wanted), _PAGE):
        moved.update(engine.steer("revive", wanted[start : start + _PAGE], reason=reason))
    return [job_id for job_id, found in roots.items() if not moved.isdisjoint(found)]


def _roots(engine: Engine, job_id: str) -> list[str]:
    """Return the jobs by which this one did not succeed: itself, where that was no other's doing."""
    roots: list[str] = []
    seen = {job_id}
    waiting = [job_id]
    while waiting:
        one = waiting.pop()
        [job] = engine.get([one])
        before = [] if job is None else [end.id for end in _unwell(engine, job)]
        waiting += [end for end in before if end not in seen]
        seen.update(before)
        if not before:
            roots.append(one)
    return roots


def _unwell(engine: Engine, job: Job) -> Iterator[ParentEnd]:
    """Yield the jobs before one, or called by it, that may have been its end."""
    if not job.state.is_final or job.state is State.SUCCEEDED or not (job.cause or _has_waited(job)):
        return
    after = 0
    while page := engine.parents(job.id, after=after, limit=_PARENTS):
        after += len(page)
        for end in page:
            was_its_end = bool(job.cause) or end.role is Role.CALL
            if was_its_end and end.state.is_final and end.state is not State.SUCCEEDED and not end.is_gone:
                yield end


def _has_waited(job: Job) -> bool:
    """Return whether a job may have let go of its slot: it was claimed more often than it was charged."""
    tallies = job.tallies
    return job.fence > tallies.errors + tallies.crashes + tallies.lost
