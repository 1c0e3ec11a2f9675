"""What the memory engine keeps of jobs, sessions and edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cicely.core.edge import Edge, Fate
from cicely.core.job import AttemptRecord, Kind, NewJob, Tallies
from cicely.core.outcome import Await
from cicely.core.resources import Amounts
from cicely.core.states import State
from cicely.engines.contract import Session


@dataclass(slots=True)
class Row:
    """A job and everything that happened to it.

    `is_held`: its workflow is not published. `fate` is how its end counts for those after it. Of a
    claim: what its lane was `charged`, which `units` of its `worker` it has, of which resources these are
    `drawn` from its workflow's reservation, what it `spent`, and whether it came back `unused`. `shuns`
    is the worker that is to run it only if no other can. Of a ready one: whether it `draws` what its
    workflow has reserved, where that is enough.
    """

    new: NewJob
    n: int
    created_at: float
    state: State
    rank: int
    kind: Kind
    due_at: float | None
    expires_at: float | None
    tallies: Tallies = field(default_factory=Tallies)
    attempt: int = 0
    fence: int = 0
    token: bytes = b""
    session: str = ""
    started_at: float | None = None
    deadline_at: float | None = None
    cancelling: bool = False
    ended_at: float | None = None
    delete_at: float = 0.0
    reason: str = ""
    progress: bytes = b""
    checkpoint: bytes | None = None
    error: bytes = b""
    result: bytes = b""
    attempts: list[AttemptRecord] = field(default_factory=list)
    is_held: bool = False
    event: Await | None = None
    steps: dict[str, bytes] = field(default_factory=dict)
    fate: Fate = Fate.SUCCESS
    cause: str = ""
    charged: float = 0.0
    worker: str = ""
    units: Amounts = field(default_factory=dict)
    drawn: frozenset[str] = frozenset()
    spent: Mapping[str, float] = field(default_factory=dict)
    unused: bool = False
    shuns: str = ""
    draws: bool = False

    @property
    def id(self) -> str:
        """The job's id."""
        return self.new.id


@dataclass(slots=True)
class Member:
    """A session and its heartbeats. `doubted`: claims that its last beat did not name."""

    session: Session
    joined_at: float
    beat_at: float
    beat: int = 0
    doubted: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class Link:
    """An edge, and whether it held; None before its parent has ended."""

    edge: Edge
    held: bool | None = None
