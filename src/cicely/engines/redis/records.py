"""What scripts return of jobs, read into the core's records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from cicely.core.edge import ParentEnd
from cicely.core.job import AttemptRecord, Claim, Job, Kind, Tallies
from cicely.core.states import State
from cicely.core.traits import role_of
from cicely.engines.contract import MALFORMED_REASON
from cicely.engines.redis.flows import (
    GATED,
    Units,
    flow_in,
    limits_of,
    units_in,
    units_of,
)
from cicely.engines.redis.kept import End, GatedRecord, Held, Node, Record, Tomb
from cicely.engines.redis.keys import token_of, unquoted
from cicely.engines.redis.line import Reply

_KINDS: Final = {kind.value: kind for kind in Kind}

#: What reading a record that was damaged by hand may raise.
UNREADABLE: Final = (msgspec.MsgspecError, KeyError, ValueError)


#: Scripts write values one after the other; these make an array of them. Longer ones may follow.
_RECORD_HEAD: Final = b"\xdc\x00\x19"
_GATED_HEAD: Final = b"\xdc\x00\x1b"
_CLAIM_HEAD: Final = b"\x9b"
_END_HEAD: Final = b"\xdc\x00\x10"
_ATTEMPT_HEAD: Final = b"\x97"
_TOMB_HEAD: Final = b"\x94"

#: Of MessagePack's integers, by their first byte, how many bytes follow; below it none do.
_SIZES: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_ONE_BYTE: Final = 0x80
_LEAST: Final = 10
#: A parent that has succeeded: its id, the score of its edge, its end.
_AS_IT_IS: Final = 3
#: What of a score are the edge's traits.
_TRAITS: Final = 64

_plain_record = msgspec.msgpack.Decoder(Record).decode
_gated_record = msgspec.msgpack.Decoder(GatedRecord).decode
_held = msgspec.msgpack.Decoder(Held).decode
_end = msgspec.msgpack.Decoder(End).decode
_attempt = msgspec.msgpack.Decoder(tuple[int, int, str, float, float, str, bytes]).decode
_tomb = msgspec.msgpack.Decoder(Tomb).decode


class Beside(NamedTuple):
    """What goes with some claims (see scripts/parts/parents.lua); a node is workflow, group and joins."""

    node: Sequence[bytes | None] | None
    parents: list[Reply] | None
    steps: int | None
    units: bytes | None


def claim_of(
    request: bytes,
    n: bytes,
    record: bytes,
    *,
    checkpoint: bytes | None,
    body: bytes | None,
    beside: Beside | None,
) -> Claim:
    """Make a claim of what `take` returns for each; `beside` is what goes with some."""
    read = _record(record)
    fence = read.fence + 1
    return Claim(
        token_of(request, int(n), fence),
        read.id,
        unquoted(read.task),
        _KINDS[read.kind],
        unquoted(read.queue),
        fence,
        (body or b"") if read.tail.body is None else read.tail.body,
        read.tail.options,
        Tallies(read.errors, read.crashes, read.lost),
        checkpoint,
        read.created_at,
        *(_beside(beside) if beside is not None else _NOTHING_BESIDE),
        read.reason if read.errors or read.crashes or read.lost else "",
        limits_of(read.flow) if isinstance(read, GatedRecord) else (),
    )


def _record(record: bytes) -> Record | GatedRecord:
    if flags_in(record) & GATED:
        return _gated_record(_GATED_HEAD + record)
    return _plain_record(_RECORD_HEAD + record)


_NO_NODE: Final = (None, None, None)
_NOTHING_BESIDE: Final[tuple[int, tuple[ParentEnd, ...], int, str, str, Units]] = (0, (), 0, "", "", {})


def _beside(beside: Beside) -> tuple[int, tuple[ParentEnd, ...], int, str, str, Units]:
    """Return joins, parents, steps, workflow, group and units of a claim."""
    workflow, group, joins = beside.node or _NO_NODE
    return (
        int(joins or 0),
        tuple(map(parent_end, beside.parents or ())),
        beside.steps or 0,
        workflow.decode() if workflow else "",
        group.decode() if group else "",
        units_in(beside.units),
    )


def fence_in(record: bytes) -> int:
    """Return the first value of a record, which scripts have read already: a small integer."""
    size = _SIZES.get(record[0])
    return record[0] if size is None else int.from_bytes(record[1 : 1 + size], "big")


def flags_in(record: bytes) -> int:
    """Return the second value of a record, a very small integer; 0 where there is none."""
    if len(record) < _LEAST:
        return 0
    return record[1] if record[0] < _ONE_BYTE else record[1 + _SIZES.get(record[0], 0)]


def damaged(n: int) -> Job:
    """Return what is shown in place of a job that cannot be read."""
    return Job(
        id=f"damaged-{n:012d}",
        task="",
        kind=Kind.SYNC,
        queue="",
        state=State.FAILED,
        reason=MALFORMED_REASON,
    )


def outline(
    record: bytes,
    run: bytes | None,
    end: bytes | None,
    *,
    progress: bytes,
    error: bytes,
    node: list[bytes | None] | None,
) -> Job:
    """Make a job of its record, its claim or its end, and its node."""
    read = _record(record)
    job = _standing(read, run, end, progress=progress, error=error)
    return job if node is None else _of_workflow(job, Node(*node))


def _of_workflow(job: Job, node: Node) -> Job:
    return msgspec.structs.replace(
        job,
        state=State.WAITING if node.waits else job.state,
        workflow=(node.workflow or b"").decode(),
        group=(node.group or b"").decode(),
        pending=int(node.pending or 0) + (node.held is not None),
        event=(node.event or b"").decode(),
        cause=(node.cause or b"").decode(),
    )


def _standing(
    read: Record | GatedRecord, run: bytes | None, end: bytes | None, *, progress: bytes, error: bytes
) -> Job:
    if end is not None:
        return _ended(read, _end(_END_HEAD + end), progress)
    if run is not None:
        return _running(read, _held(_CLAIM_HEAD + run), progress, error)
    return msgspec.structs.replace(
        _waiting(read),
        state=State.READY if read.due_at is None else State.SCHEDULED,
        progress=progress,
        error=error,
    )


def _waiting(read: Record | GatedRecord) -> Job:
    return Job(
        id=read.id,
        task=unquoted(read.task),
        kind=_KINDS[read.kind],
        queue=unquoted(read.queue),
        state=State.READY,
        lane=unquoted(read.lane),
        priority=read.tail.priority,
        tags=read.tags or (),
        unique=read.unique,
        tallies=Tallies(read.errors, read.crashes, read.lost),
        attempt=read.attempt,
        fence=read.fence,
        created_at=read.created_at,
        due_at=read.due_at,
        expires_at=read.expires_at,
        started_at=read.started_at,
        reason=read.reason,
    )


def _running(read: Record | GatedRecord, held: Held, progress: bytes, error: bytes) -> Job:
    job = _waiting(read)
    return msgspec.structs.replace(
        job,
        state=State.RUNNING,
        attempt=job.tallies.attempt,
        fence=read.fence + 1,
        started_at=held.claimed_at,
        session=held.session,
        cancelling=held.why != "",
        reason=held.why or read.reason,
        units=units_of(held.units),
        progress=progress,
        error=error,
    )


def _ended(read: Record | GatedRecord, end: End, progress: bytes) -> Job:
    return msgspec.structs.replace(
        _waiting(read),
        state=end.state,
        tallies=Tallies(end.errors, end.crashes, end.lost),
        attempt=end.attempt,
        fence=end.fence,
        due_at=None,
        started_at=end.started_at,
        ended_at=end.ended_at,
        reason=end.reason,
        progress=progress,
        error=end.error,
    )


class Full(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All parts of one job, as `get` returns them."""

    record: bytes
    run: bytes | None
    end: bytes | None
    progress: bytes | None
    error: bytes | None
    attempts: list[bytes]
    body: bytes | None
    result: bytes | None
    node: list[bytes | None] | None


def full(parts: Full) -> Job:
    """Make a job of all its parts."""
    job = outline(
        parts.record,
        parts.run,
        parts.end,
        progress=parts.progress or b"",
        error=parts.error or b"",
        node=parts.node,
    )
    record = _record(parts.record)
    tail = record.tail
    attempts = [AttemptRecord(*_attempt(_ATTEMPT_HEAD + one)) for one in parts.attempts]
    result = b""
    if parts.end is not None:
        end = _end(_END_HEAD + parts.end)
        result = parts.result or end.result
        attempts += _last_attempt(end)
    return msgspec.structs.replace(
        job,
        body=(parts.body or b"") if tail.body is None else tail.body,
        options=tail.options,
        result=result,
        attempts=tuple(attempts),
        flow=flow_in(record.flow) if isinstance(record, GatedRecord) else None,
    )


def _last_attempt(end: End) -> list[AttemptRecord]:
    """Return the attempt in which a job ended; none where it did not run."""
    if not end.session:
        return []
    started_at = end.started_at or 0.0
    return [
        AttemptRecord(end.attempt, end.fence, end.outcome, started_at, end.ended_at, end.session, end.error)
    ]


def parent_end(told: Reply) -> ParentEnd:
    """Make a parent's end of what scripts/parts/parents.lua tells."""
    if len(told) == _AS_IT_IS:
        job_id, score, ended = told
        end = _end(_END_HEAD + ended)
        return ParentEnd(job_id.decode(), role_of(int(score) % _TRAITS), end.state, end.result, end.error)
    job_id, traits, state, error, result, cause, is_gone = told
    return ParentEnd(
        job_id.decode(), role_of(traits), State(state.decode()), result, error, cause.decode(), is_gone == 1
    )


def buried(job_id: str, tomb: bytes) -> Job:
    """Make a job of a tomb."""
    read = _tomb(_TOMB_HEAD + tomb)
    return Job(
        id=job_id,
        task=unquoted(read.task),
        kind=_KINDS[read.kind],
        queue=unquoted(read.queue),
        state=read.state,
        swept=True,
    )
