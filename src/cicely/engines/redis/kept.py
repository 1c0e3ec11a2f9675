"""What scripts keep of jobs, claims and ends, as arrays of values; see scripts/parts/rows.lua."""

from __future__ import annotations

import msgspec

from cicely.core.states import State
from cicely.engines.redis.flows import KeptFlow, KeptUnits


class Tail(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What only clients read of a record; `body` is None where it lies apart."""

    priority: int
    options: bytes
    body: bytes | None


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What every record of a job begins with; see scripts/parts/rows.lua."""

    fence: int
    flags: int
    errors: int
    crashes: int
    lost: int
    id: str
    queue: str
    keep_s: float
    keep_failed_s: float
    unique: str
    remember_s: float
    max_receives: int
    task: str
    lane: str
    base: float
    tags: tuple[str, ...] | None
    kind: str
    rank: float
    expires_at: float | None
    due_at: float | None
    created_at: float
    attempt: int
    started_at: float | None
    reason: str


class Record(Head, frozen=True, array_like=True, gc=False):
    """A job's record."""

    tail: Tail


class GatedRecord(Head, frozen=True, array_like=True, gc=False):
    """The record of a job that is not plain; see scripts/parts/gates.lua."""

    flow: KeptFlow | None
    shuns: str
    tail: Tail


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What scripts tell of a claim: what `runs` keeps of it, the head of its job's record, its units.

    `why` says why it was cancelled, and is "" where it was not.
    """

    request: str
    session: str
    claimed_at: float
    why: str
    deadline_at: float | None
    fence: int
    flags: int
    errors: int
    crashes: int
    lost: int
    units: KeptUnits | None = None


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A job's end; see scripts/parts/endings.lua."""

    state: State
    ended_at: float
    started_at: float | None
    session: str
    request: str
    fence: int
    attempt: int
    errors: int
    crashes: int
    lost: int
    reason: str
    outcome: str
    delete_at: float
    large: int
    error: bytes
    result: bytes


class Node(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a job of a workflow has beside its record; see scripts/parts/graph.lua."""

    waits: bytes | None = None
    held: bytes | None = None
    pending: bytes | None = None
    workflow: bytes | None = None
    group: bytes | None = None
    event: bytes | None = None
    cause: bytes | None = None


class Tomb(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is left of a swept job."""

    kind: str
    task: str
    queue: str
    state: State
