"""Moving jobs on a person's behalf, and reviving them where their failure began.

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


def steer(engine: Engine, move: str, job_ids: Sequence[str], *, reason: str = "") -> list[str]:
    """Cancel, revive or discard jobs, in pages; return those of `job_ids` that moved.

    Revived is each where its failure began; returned are those that come back by that.
    """
    ids = list(dict.fromkeys(job_ids))
    if move != "revive":
        return list(_moved(engine, move, ids, reason))
    roots = _roots(engine, ids)
    wanted = dict.fromkeys(root for found in roots.values() for root in found)
    moved = set(_moved(engine, move, list(wanted), reason))
    return [job_id for job_id, found in roots.items() if not moved.isdisjoint(found)]


def _moved(engine: Engine, move: str, ids: list[str], reason: str) -> Iterator[str]:
    for page in _pages(ids):
        yield from engine.steer(move, page, reason=reason)


def _roots(engine: Engine, job_ids: list[str]) -> dict[str, list[str]]:
    """Return for each job those by which it did not succeed: itself, where that was no other's doing."""
    return {
        job_id: [job_id] if job is None or not _may_follow(job) else _roots_of(engine, job)
        for page in _pages(job_ids)
        for job_id, job in zip(page, engine.get(page), strict=True)
    }


def _roots_of(engine: Engine, job: Job) -> list[str]:
    roots: list[str] = []
    seen = {job.id}
    waiting = [job]
    while waiting:
        one = waiting.pop()
        before = [end.id for end in _unwell(engine, one)]
        if not before:
            roots.append(one.id)
        unseen = [end for end in before if end not in seen]
        seen.update(unseen)
        waiting += [found for page in _pages(unseen) for found in engine.get(page) if found is not None]
    return roots


def _unwell(engine: Engine, job: Job) -> Iterator[ParentEnd]:
    """Yield the jobs before one, or called by it, that may have been its end."""
    after = 0
    while _may_follow(job) and (page := engine.parents(job.id, after=after, limit=_PARENTS)):
        after += len(page)
        for end in page:
            was_its_end = bool(job.cause) or end.role is Role.CALL
            if was_its_end and end.state.is_final and end.state is not State.SUCCEEDED and not end.is_gone:
                yield end


def _may_follow(job: Job) -> bool:
    """Return whether a job may have ended by another's doing.

    It was cancelled because of one, or may have waited for one: it was claimed more often than charged.
    """
    if not job.state.is_final or job.state is State.SUCCEEDED:
        return False
    tallies = job.tallies
    return bool(job.cause) or job.fence > tallies.errors + tallies.crashes + tallies.lost


def _pages(ids: list[str]) -> Iterator[list[str]]:
    return (ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE))
