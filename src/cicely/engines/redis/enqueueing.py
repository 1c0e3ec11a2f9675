"""The verb `enqueue`: what a script is told of new jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.core.edge import Edge
from cicely.core.job import Enqueued, NewJob, rank
from cicely.core.traits import traits_of
from cicely.engines.redis.caller import Caller
from cicely.engines.redis.flows import GATED, WATCHED, kept_flow
from cicely.engines.redis.keys import quoted, unquoted
from cicely.engines.redis.line import Reply, Word
from cicely.errors import BacklogFull, JobNotFound

#: Bodies above this lie apart, so that a record stays small when it is written again.
INLINE_BYTES: Final = 1_024
#: So many jobs go into one call of the script; the caller's own page is rarely larger.
PAGE: Final = 2_000

#: Workflow, group and whether it is held.
Label = tuple[str, str, bool]

_encode: Final = msgspec.msgpack.Encoder().encode
#: An array of 18 values begins with so many bytes.
_HEAD_BYTES: Final = 3


def enqueue(run: Caller, jobs: Sequence[NewJob], edges: Sequence[Edge] = ()) -> list[Enqueued]:
    """Store those of `jobs` that are new, in their order. Raises JobNotFound for an edge's end."""
    labelled = labels(jobs)
    if not labelled[0] and not edges:
        return _answers(jobs, accepted(run("enqueue", *told(jobs))))
    ends = [word for edge in edges for word in (edge.parent, edge.child, traits_of(edge))]
    reply = accepted(run("enqueue_graph", _encode((labelled, ends)), *told(jobs)))
    if isinstance(reply, bytes):
        raise JobNotFound(f"job {reply.decode()} is neither known nor among those enqueued with its edge")
    return _answers(jobs, reply)


def accepted(reply: Reply) -> Reply:
    """Return a reply that is no refusal. Raises BacklogFull."""
    if not isinstance(reply, list) or not reply or reply[0] != 0:
        return reply
    _, key, ready, most, refused = reply
    raise BacklogFull(
        f"{ready} jobs of {unquoted(key.decode())} are ready and its backlog may hold {most}: "
        f"{refused} more are refused; send them again when some have started"
    )


def labels(jobs: Sequence[NewJob]) -> tuple[list[Label], list[int]]:
    """Return the labels that there are, and which of them each job has, from 1; 0 for none."""
    numbers: dict[Label, int] = {}
    places = [
        numbers.setdefault((job.workflow, job.group, job.held), len(numbers) + 1)
        if job.workflow or job.group or job.held
        else 0
        for job in jobs
    ]
    return list(numbers), places if numbers else []


def told(jobs: Sequence[NewJob]) -> list[Word]:
    """Return jobs as scripts take them: how many, each of them, the large bodies."""
    bodies = [job.body for job in jobs if len(job.body) > INLINE_BYTES]
    return [len(jobs), *map(_asked, jobs), *bodies]


def _answers(jobs: Sequence[NewJob], holders: Reply) -> list[Enqueued]:
    return [
        Enqueued(job.id, fresh=True) if holder is None else Enqueued(holder.decode(), fresh=False)
        for job, holder in zip(jobs, holders, strict=True)
    ]


def _asked(new: NewJob) -> bytes:
    """Return card, wishes, flow (if any) and tail of a job's record, one value after the other."""
    is_large = len(new.body) > INLINE_BYTES
    is_gated = new.flow is not None or new.lane != ""
    flow = (None if new.flow is None else kept_flow(new.flow),) if is_gated else ()
    return _encode(
        (
            new.id,
            quoted(new.queue),
            new.keep_s,
            new.keep_failed_s,
            new.unique,
            new.remember_s,
            new.max_receives,
            quoted(new.task),
            quoted(new.lane),
            rank(new.priority, 0.0, ageing_s=new.ageing_s),
            new.tags or None,
            new.kind.value,
            new.delay_s,
            new.due_at,
            new.expires_s,
            new.expires_at,
            is_large + is_gated * GATED + new.watched * WATCHED,
            *flow,
            (new.priority, new.options, None if is_large else new.body),
        )
    )[_HEAD_BYTES:]
