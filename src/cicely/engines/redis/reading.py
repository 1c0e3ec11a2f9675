"""The verbs of reading: get, find and queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.core.edge import ParentEnd
from cicely.core.job import Filter, Job, Page
from cicely.core.outcome import Step
from cicely.core.states import State
from cicely.engines.contract import QueueRecord
from cicely.engines.redis.caller import Caller
from cicely.engines.redis.keys import padded, unquoted
from cicely.engines.redis.line import Reply
from cicely.engines.redis.records import UNREADABLE, Full, buried, damaged, full, outline, parent_end

#: A search looks at so many jobs per call at most, and goes on from there at the next.
LOOKED_AT: Final = 2_000
_CHUNK: Final = 100
_GOT_AT_ONCE: Final = 100
_PER_JOB: Final = 7
_END: Final = 10**12 - 1

#: States whose jobs have an index of their own.
_NARROW: Final = {
    State.RUNNING: "runs",
    State.FAILED: "ended:failed",
    State.CANCELLED: "ended:cancelled",
    State.EXPIRED: "ended:expired",
}


def get(run: Caller, job_ids: Sequence[str]) -> list[Job | None]:
    """Return each job in full, or None."""
    jobs: list[Job | None] = []
    for first in range(0, len(job_ids), _GOT_AT_ONCE):
        page = job_ids[first : first + _GOT_AT_ONCE]
        jobs += map(_got, page, run("get", *page))
    return jobs


def _got(job_id: str, parts: Reply) -> Job | None:
    if not parts:
        return None
    try:
        return buried(job_id, parts[0]) if len(parts) == 1 else full(Full(*parts))
    except UNREADABLE:
        return msgspec.structs.replace(damaged(0), id=job_id)


def find(run: Caller, where: Filter, limit: int, cursor: str | None) -> Page:
    """Return one page of the jobs that match, newest first."""
    before = int(cursor) if cursor else _END
    found: list[tuple[int, Job]] = []
    for _ in range(LOOKED_AT // _CHUNK):
        last, has_more, *values = run("find", padded(before), _CHUNK, *_indexes(where))
        found += [(n, job) for n, job in _outlines(values) if where.matches(job)]
        if len(found) > limit:
            return Page(tuple([job for _, job in found[:limit]]), str(found[limit - 1][0]))
        if not has_more:
            return Page(tuple([job for _, job in found]), None)
        before = int(last)
    return Page(tuple([job for _, job in found]), str(before))


def _indexes(where: Filter) -> list[str]:
    """Return the narrowest indexes in which all jobs that match are found."""
    if where.group:
        return [f"grp:{where.group}"]
    if where.workflow:
        return [f"of:{where.workflow}"]
    if where.tag:
        return [f"tag:{where.tag}"]
    if where.states and all(state in _NARROW for state in where.states):
        return sorted({_NARROW[state] for state in where.states})
    return ["all"]


def _outlines(values: list[Reply]) -> list[tuple[int, Job]]:
    jobs = []
    for i in range(0, len(values), _PER_JOB):
        n, record, run, end, progress, error, node = values[i : i + _PER_JOB]
        try:
            job = outline(record, run, end, progress=progress or b"", error=error or b"", node=node)
        except UNREADABLE:
            job = damaged(int(n))
        jobs.append((int(n), job))
    return jobs


def queues(run: Caller) -> list[QueueRecord]:
    """Return every queue, by name, with its count per state."""
    fields, paused = run("queues")
    counts: dict[str, dict[State, int]] = {unquoted(name.decode()): {} for name in paused}
    for field, jobs in zip(fields[::2], fields[1::2], strict=True):
        name, _, state = field.decode().partition("|")
        of_queue = counts.setdefault(unquoted(name), {})
        if int(jobs):
            of_queue[State(state)] = int(jobs)
    stopped = {unquoted(name.decode()) for name in paused}
    return [QueueRecord(name, name in stopped, counts[name]) for name in sorted(counts)]


def parents(run: Caller, job_id: str, after: int, limit: int) -> list[ParentEnd]:
    """Return how the parents of a job stand, in pages that do not hold the server up."""
    found: list[ParentEnd] = []
    while len(found) < limit:
        page = run("parents", job_id, after + len(found), min(_GOT_AT_ONCE, limit - len(found)))
        found += map(parent_end, page)
        if len(page) < _GOT_AT_ONCE:
            break
    return found


def steps(run: Caller, job_id: str, after: int, limit: int) -> list[Step]:
    """Return the recorded steps of a job, oldest first."""
    keys, values = run("steps", job_id, after, limit)
    return [Step(key.decode(), value) for key, value in zip(keys, values, strict=True)]
