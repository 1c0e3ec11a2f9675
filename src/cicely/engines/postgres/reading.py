"""The verbs of reading: get, find and queues. They see one snapshot and take no lock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import msgspec

from cicely.core.job import AttemptRecord, Filter, Job, Page, Tallies
from cicely.core.states import State
from cicely.engines.contract import QueueRecord
from cicely.engines.postgres.limiting import read_flow
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import (
    CODES,
    Transaction,
    state_of,
    tags_of,
)
from cicely.engines.postgres.units import units_in
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("read")

#: A search looks at so many jobs per call at most, and goes on from there at the next.
LOOKED_AT: Final = 2_000
_CHUNK: Final = 100
_END: Final = 1 << 62
#: Of the columns of `whole`: so many are those of `outline`, and from here on it says how a job ended.
_OUTLINED: Final = 38
_END_AT: Final = 23


def get(txn: Transaction, job_ids: Sequence[str]) -> list[Job | None]:
    """Return each job in full, or None."""
    if not job_ids:
        return []
    jobs = {job.id: job for job in map(partial(_whole, txn), txn.rows(_SQL["whole"], {"ids": list(job_ids)}))}
    unknown = [job_id for job_id in job_ids if job_id not in jobs]
    tombs = _tombs(txn, unknown) if unknown else {}
    return [jobs.get(job_id) or tombs.get(job_id) for job_id in job_ids]


def _whole(txn: Transaction, values: Values) -> Job:
    outline, rest = values[:_OUTLINED], values[_OUTLINED:]
    body, options, result, flow, session, outcome, *earlier = rest
    attempts = [AttemptRecord(*values) for values in zip(*earlier, strict=True)] if earlier[0] else []
    if session is not None:
        started_at, ended_at, fence, attempt, _, error = outline[_END_AT : _END_AT + 6]
        attempts.append(AttemptRecord(attempt, fence, outcome, started_at, ended_at, session, error or b""))
    return msgspec.structs.replace(
        _outline(txn, outline),
        body=body,
        options=options,
        result=result or b"",
        flow=None if flow is None else read_flow(flow)[0],
        attempts=tuple(sorted(attempts, key=lambda one: one.fence)),
    )


def _tombs(txn: Transaction, job_ids: Sequence[str]) -> dict[str, Job]:
    tombs = {}
    for job_id, job_class, queue, state in txn.rows(_SQL["tombs"], {"ids": list(job_ids)}):
        task, kind = txn.class_of(job_class)
        tombs[job_id] = Job(
            id=job_id,
            task=task,
            kind=kind,
            queue=txn.queue_name(queue),
            state=state_of(state),
            swept=True,
        )
    return tombs


def _outlines(txn: Transaction, ns: Iterable[int]) -> list[tuple[int, Job]]:
    """Return jobs by their numbers, newest first, without what only `get` fills."""
    wanted = list(ns)
    if not wanted:
        return []
    return [(values[0], _outline(txn, values)) for values in txn.rows(_SQL["outline"], {"ns": wanted})]


def _outline(txn: Transaction, values: Values) -> Job:
    (
        _, job_id, job_class, queue, lane, priority, tags, unique, errors, crashes, lost, attempt,
        fence, created_at, due_at, expires_at, started_at, reason, claimed_at, run_fence, cancelling,
        session, end, end_started_at, ended_at, end_fence, end_attempt, end_reason, end_error,
        progress, error, workflow, group, waits, event, cause, pending, units,
    ) = values  # fmt: skip
    task, kind = txn.class_of(job_class)
    tallies = Tallies(errors, crashes, lost)
    if end is not None:
        state = state_of(end)
        started_at, fence, attempt, reason = end_started_at, end_fence, end_attempt, end_reason
        due_at, error = None, end_error
    elif claimed_at is not None:
        state = State.RUNNING
        started_at, fence, attempt = claimed_at, run_fence, tallies.attempt
    elif waits:
        state = State.WAITING
    else:
        state = State.READY if due_at is None else State.SCHEDULED
    return Job(
        id=job_id,
        task=task,
        kind=kind,
        queue=txn.queue_name(queue),
        state=state,
        lane=lane,
        priority=priority,
        tags=tags_of(tags),
        unique=unique or "",
        tallies=tallies,
        attempt=attempt,
        fence=fence,
        created_at=created_at,
        due_at=due_at,
        expires_at=expires_at,
        started_at=started_at,
        ended_at=ended_at,
        session=session or "",
        cancelling=bool(cancelling),
        reason=reason,
        progress=progress or b"",
        error=error or b"",
        workflow=workflow or "",
        group=group or "",
        pending=pending,
        event=event or "",
        cause=cause or "",
        units=units_in(units),
    )


def find(txn: Transaction, where: Filter, limit: int, cursor: str | None) -> Page:
    """Return one page of the jobs that match, newest first."""
    before = int(cursor) if cursor else _END
    found: list[tuple[int, Job]] = []
    looked_at = 0
    candidates = _candidates(txn, where, before)
    while chunk := list(itertools.islice(candidates, _CHUNK)):
        looked_at += len(chunk)
        found += [(n, job) for n, job in _outlines(txn, chunk) if where.matches(job)]
        if len(found) > limit:
            return Page(tuple(job for _, job in found[:limit]), str(found[limit - 1][0]))
        if looked_at >= LOOKED_AT:
            return Page(tuple(job for _, job in found), str(chunk[-1]))
    return Page(tuple(job for _, job in found), None)


def _candidates(txn: Transaction, where: Filter, before: int) -> Iterator[int]:
    """Yield the numbers of jobs that may match, newest first, from the narrowest index there is."""
    states = set(where.states)
    if where.tag:
        return _newest(txn, "newest_tagged", before, where.tag)
    if where.workflow:
        return _newest(txn, "newest_labelled", before, where.workflow)
    if where.group:
        return _newest(txn, "newest_grouped", before, where.group)
    if not states or states & {State.READY, State.SCHEDULED, State.WAITING}:
        return _newest(txn, "newest", before)
    by_state = [_newest(txn, "newest_running", before)] if State.RUNNING in states else []
    if State.SUCCEEDED in states:
        by_state.append(_newest(txn, "newest_final", before))
    else:
        ends = states - {State.RUNNING}
        by_state += [_newest(txn, "newest_ended", before, CODES[state]) for state in ends]
    return heapq.merge(*by_state, reverse=True)


def _newest(txn: Transaction, index: str, before: int, key: object = None) -> Iterator[int]:
    while rows := txn.rows(_SQL[index], {"before": before, "limit": _CHUNK, "key": key}):
        for (n,) in rows:
            yield n
        before = rows[-1][0]


def queues(txn: Transaction) -> list[QueueRecord]:
    """Return every queue, by name, with its count per state."""
    records = []
    for name, paused, is_steered, *counts in txn.rows(_SQL["counts"]):
        if paused or is_steered or counts[0] is not None:
            by_state = {state_of(code): jobs for code, jobs in enumerate(counts) if jobs}
            records.append(QueueRecord(name, paused, by_state))
    return records
