"""The records that cross every seam: NewJob (asked for), Claim (held), Job (kept).

Instants are Unix seconds by the engine's clock, durations are seconds. `bytes` fields hold what
`core.codec` wrote; engines store them and never look inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

import msgspec

from cicely.core.edge import ParentEnd
from cicely.core.flow import Flow
from cicely.core.states import State

DEFAULT_PRIORITY = 5
DAY_S = 86_400.0
#: A step of 2**52 µs is 142 years: no waiting time outweighs a priority.
_STEP_BITS = 52


class Kind(StrEnum):
    """How a job wants to run; a session asks for jobs by kind."""

    SYNC = "sync"
    ASYNC = "async"
    ISOLATED = "isolated"
    MESSAGE = "message"


class NewJob(msgspec.Struct, frozen=True, gc=False):
    """What a caller asks an engine to keep.

    `delay_s` counts from the engine's now; `due_at` is an instant that a person named. `unique` is
    a key that at most one live job may hold ("" for none). `remember_s` is how long the id of a
    swept job is kept, so that repeating it does not run it again (0 for generated ids).
    `ageing_s` is the waiting time that weighs as much as one step of priority (0: strict).
    `options` are the caller's overrides of the task's options; engines do not read them.
    `max_receives` bounds how often a message is handed out before it is given up.
    `workflow` and `group` are labels that jobs share ("" for none). A `held` job waits until its
    workflow is published. Of a job that waits, `delay_s` and `expires_s` count from its release.
    `lane` is whose share of the queue it takes, `flow` what else holds it back (None: nothing).
    Of a `watched` one each start and success is told as an event, not only what goes wrong.
    """

    id: str
    task: str
    kind: Kind
    queue: str
    body: bytes = b""
    options: bytes = b""
    priority: int = DEFAULT_PRIORITY
    lane: str = ""
    tags: tuple[str, ...] = ()
    delay_s: float = 0.0
    due_at: float | None = None
    expires_s: float | None = None
    expires_at: float | None = None
    unique: str = ""
    ageing_s: float = 0.0
    keep_s: float = DAY_S
    keep_failed_s: float = 30 * DAY_S
    remember_s: float = 0.0
    max_receives: int = 0
    workflow: str = ""
    group: str = ""
    held: bool = False
    flow: Flow | None = None
    watched: bool = False


def to_store(jobs: Iterable[NewJob], is_known: Callable[[NewJob], bool]) -> list[NewJob]:
    """Return those that are to be stored: neither what is known nor one before them stands for them."""
    stored: list[NewJob] = []
    ids: set[str] = set()
    keys: set[str] = set()
    for job in jobs:
        if job.id in ids or job.unique in keys or is_known(job):
            continue
        stored.append(job)
        ids.add(job.id)
        if job.unique:
            keys.add(job.unique)
    return stored


class Enqueued(msgspec.Struct, frozen=True, gc=False):
    """The answer to one NewJob: the job that stands for it, and whether it was stored just now."""

    id: str
    fresh: bool


class Tallies(msgspec.Struct, frozen=True, gc=False):
    """How a job's earlier attempts ended, by whose fault; see the three cut-offs in `outcome`."""

    errors: int = 0
    crashes: int = 0
    lost: int = 0

    @property
    def attempt(self) -> int:
        """The number, from 1, of an attempt that is claimed with these tallies."""
        return 1 + self.errors + self.crashes + self.lost


class Claim(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A job held by a session, and the token that proves it. Encoded only between processes of one worker.

    `fence` counts the job's claims and never decreases: user code hands it to outside systems.
    `joins` is the number of jobs that it came after; where they are few, `parents` holds how they
    ended, in order, else `Engine.parents` gives them in pages. `steps` is the number of recorded
    steps, which `Engine.steps` gives. `workflow` and `group` are the job's labels. `units` names, by
    resource, what it was given of its worker. `reason` says how the attempt before ended. `keys` are
    those of the limits that it passed.
    """

    token: bytes
    job_id: str
    task: str
    kind: Kind
    queue: str
    fence: int
    body: bytes
    options: bytes = b""
    tallies: Tallies = Tallies()
    checkpoint: bytes | None = None
    created_at: float = 0.0
    joins: int = 0
    parents: tuple[ParentEnd, ...] = ()
    steps: int = 0
    workflow: str = ""
    group: str = ""
    units: Mapping[str, Mapping[str, float]] = {}
    reason: str = ""
    keys: tuple[str, ...] = ()

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.tallies.attempt


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """How one attempt ended: its number, fence, reason and, if it failed, its encoded error."""

    attempt: int
    fence: int
    reason: str
    started_at: float
    ended_at: float
    session: str
    error: bytes = b""


class Job(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job as the engine keeps it, at one instant.

    `attempt` is 0 before the first claim. `cancelling` says that a running job was asked to end.
    `reason` says in words how it reached its state (a cancellation's cause, a failure's class).
    `swept` marks what is left of a job with an explicit id after its retention: id and state.
    `attempts` lists ended attempts, oldest first, and is filled by `get` only, as are `body` and
    `result`. `pending` counts the jobs that a waiting one still waits for (being published counts
    as one), `event` is the name of the event that it waits for. `cause` is the job because of
    which this one was cancelled, "" where that was a person. `flow` is filled by `get` only, and
    `units` where it runs.
    """

    id: str
    task: str
    kind: Kind
    queue: str
    state: State
    lane: str = ""
    priority: int = DEFAULT_PRIORITY
    tags: tuple[str, ...] = ()
    unique: str = ""
    tallies: Tallies = Tallies()
    attempt: int = 0
    fence: int = 0
    created_at: float = 0.0
    due_at: float | None = None
    expires_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    session: str = ""
    cancelling: bool = False
    swept: bool = False
    reason: str = ""
    progress: bytes = b""
    error: bytes = b""
    result: bytes = b""
    body: bytes = b""
    options: bytes = b""
    attempts: tuple[AttemptRecord, ...] = ()
    workflow: str = ""
    group: str = ""
    pending: int = 0
    event: str = ""
    cause: str = ""
    flow: Flow | None = None
    units: Mapping[str, Mapping[str, float]] = {}


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs a search wants; an empty field means "any". Instants bound `created_at`."""

    states: tuple[State, ...] = ()
    task: str = ""
    queue: str = ""
    tag: str = ""
    workflow: str = ""
    group: str = ""
    since: float | None = None
    until: float | None = None

    def matches(self, job: Job) -> bool:
        """Return whether `job` is one that this filter wants."""
        return (
            (not self.states or job.state in self.states)
            and (not self.task or job.task == self.task)
            and (not self.queue or job.queue == self.queue)
            and (not self.tag or self.tag in job.tags)
            and (not self.workflow or self.workflow == job.workflow)
            and (not self.group or self.group == job.group)
            and (self.since is None or job.created_at >= self.since)
            and (self.until is None or job.created_at < self.until)
        )


class Page(msgspec.Struct, frozen=True):
    """Some jobs, newest first, and the cursor that continues after them (None at the end).

    A page may hold fewer jobs than asked for, even none, and still have a cursor: an engine looks
    at a bounded number of rows per call.
    """

    jobs: tuple[Job, ...]
    cursor: str | None


def rank(priority: int, ready_at: float, *, ageing_s: float) -> int:
    """Return the static key by which a queue orders its ready jobs, the smallest first.

    Strict: a higher priority goes first, then whoever was ready earlier. With ageing: one step of
    priority weighs as much as `ageing_s` seconds of waiting, so that nobody waits for ever.
    """
    ready_us = int(ready_at * 1e6)
    if ageing_s > 0:
        return ready_us - int(priority * ageing_s * 1e6)
    return ((9 - priority) << _STEP_BITS) + ready_us


def step(rank: int) -> int:
    """Return which step of priority a rank stands on, from 0 on for the highest; one for all with ageing."""
    return max(rank, 0) >> _STEP_BITS
