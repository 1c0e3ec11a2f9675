"""Where gated jobs stand when they are ready, as their rows say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.job import NewJob
from cicely.engines.postgres.graph import APART, GATED
from cicely.engines.postgres.limiting import encoded, read_flow
from cicely.engines.postgres.names import Names
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.streams import Place, needs_of
from cicely.engines.postgres.transaction import Transaction

_SQL: Final = statements("valve")


def is_gated(job: NewJob) -> bool:
    """Return whether a new job stands in a stream."""
    return bool(job.lane) or job.flow is not None


def may_draw(job: NewJob) -> bool:
    """Return whether a new job wants what its workflow may have reserved."""
    return bool(job.workflow and job.flow is not None and job.flow.resources)


def streams_of(jobs: Sequence[NewJob], names: Names) -> tuple[list[int | None], list[bytes | None]]:
    """Return the streams of new jobs and their flows as they are stored. Raises Unplaced."""
    places = [
        Place(names.queue_id(job.queue), job.lane, names.class_id(job.task, job.kind), needs_of(job.flow))
        if is_gated(job)
        else None
        for job in jobs
    ]
    flows = [None if job.flow is None else encoded(job.flow) for job in jobs]
    return names.streams.numbers_of(places), flows


def stand(txn: Transaction, n: int, *, job_class: int | None = None, shuns: str = "") -> int:
    """Change where a job stands from now on when it is ready; return its stream, 0 for a plain one."""
    row = txn.row(_SQL["place"], {"n": n})
    if row is None:
        return 0
    queue, lane, own_class, flow = row
    if not lane and flow is None and not shuns:
        txn.execute(_SQL["restand"], (None, 0, n))
        return 0
    needs = needs_of(None if flow is None else read_flow(flow)[0], shuns=shuns)
    place = Place(queue, lane, own_class if job_class is None else job_class, needs)
    [stream] = txn.names.streams.numbers_of([place])
    txn.execute(_SQL["restand"], (stream, GATED | (APART if shuns else 0), n))
    return stream or 0


def stand_anywhere(txn: Transaction, n: int) -> int:
    """Let a job that shunned a worker, or drew, stand again as if it had not."""
    return stand(txn, n)
