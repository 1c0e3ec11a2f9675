"""What the tests arrange with: jobs, sessions and claims, filled in but for what matters."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from cicely.core.flow import Flow, Use
from cicely.core.job import Claim, Job, Kind, NewJob
from cicely.core.outcome import Failed, Outcome, Succeeded
from cicely.core.states import State
from cicely.engines.contract import (
    Ask,
    Beat,
    Bell,
    Demand,
    Engine,
    Intake,
    Session,
    Silent,
    Swept,
    Verdict,
    name_of,
)

QUEUE = "main"
LEASE_S = 30.0
TASKS = frozenset({"work", "other", ""})
KINDS = (Kind.SYNC, Kind.ASYNC, Kind.ISOLATED)

#: Instants are compared so: engines may round to the millisecond.
TICK_S = 0.002

#: How long a ring may take on a busy machine, and how long a wait for none lasts.
RING_S = 2.0
SILENCE_S = 0.05

job = partial(NewJob, task="work", kind=Kind.SYNC, queue=QUEUE)
message = partial(NewJob, task="", kind=Kind.MESSAGE, queue=QUEUE, max_receives=3)
session = partial(Session, worker="boss", tasks=TASKS, lease_s=LEASE_S)


def using(*keys: str, **cost: float) -> Flow:
    """Return the flow of a job that takes of these limits, and so much of the meters of each."""
    return Flow(uses=tuple(Use(key, cost) for key in sorted(keys)))


def wanting(**amounts: float) -> Flow:
    """Return the flow of a job that wants so much of these resources."""
    return Flow(resources=tuple(sorted(amounts.items())))


def demand(
    slots: int = 1,
    request: bytes = b"",
    *,
    queues: tuple[str, ...] = (QUEUE,),
    kinds: tuple[Kind, ...] = KINDS,
    pace: Mapping[str, float] | None = None,
    buffer_s: float = 0.0,
    limit: int = 0,
    visibility_s: float | None = None,
) -> Demand:
    """Return a demand of one ask, under a request of its own unless one is given."""
    ask = Ask(kinds, slots, pace or {}, buffer_s, limit)
    return Demand(request or os.urandom(8), queues, (ask,), visibility_s)


def receive_demand(count: int, *, visibility_s: float | None = None) -> Demand:
    """Return a demand for messages."""
    return demand(count, kinds=(Kind.MESSAGE,), visibility_s=visibility_s)


def take(engine: Engine, count: int = 1, *, by: str = "s") -> tuple[Claim, ...]:
    """Claim up to `count` jobs for the session `by`."""
    return engine.claim(by, demand(count)).claims


def take_one(engine: Engine, *, by: str = "s") -> Claim:
    """Claim one job for the session `by`; there must be one."""
    [claim] = take(engine, by=by)
    return claim


def start(engine: Engine, new: NewJob, *, by: str = "s") -> Claim:
    """Enqueue a job, join the session `by` and claim the job."""
    engine.join(session(id=by))
    engine.enqueue([new])
    claim = take_one(engine, by=by)
    assert claim.job_id == new.id
    return claim


def settle(engine: Engine, outcome: Outcome, *, by: str = "s") -> Verdict:
    """Settle one outcome."""
    [verdict] = engine.settle(by, [outcome]).verdicts
    return verdict


def succeed(engine: Engine, new: NewJob) -> None:
    """Carry a job from its enqueue to its success."""
    claim = start(engine, new)
    assert settle(engine, Succeeded(claim.token)) is Verdict.ACCEPTED


def fail(engine: Engine, new: NewJob) -> None:
    """Carry a job from its enqueue to its failure."""
    claim = start(engine, new)
    assert settle(engine, Failed(claim.token, "error", b"why")) is Verdict.ACCEPTED


def look(engine: Engine, job_id: str = "a") -> Job:
    """Return a job in full; it must be known."""
    [found] = engine.get([job_id])
    assert found is not None, f"job {job_id} is unknown"
    return found


def state_of(engine: Engine, job_id: str = "a") -> State:
    """Return where a job stands."""
    return look(engine, job_id).state


def ids(intake: Intake | Sequence[Claim]) -> list[str]:
    """Return the ids of claimed jobs, in their order."""
    claims = intake.claims if isinstance(intake, Intake) else intake
    return [claim.job_id for claim in claims]


def beat(engine: Engine, *claims: Claim, of: str = "s", number: int | None = None) -> Beat:
    """Beat for one session that names `claims`, under the next number unless one is given."""
    if number is None:
        number = 1 + max((r.beat for r in engine.sessions() if r.session.id == of), default=0)
    [answer] = engine.beat({of: [claim.token for claim in claims]}, number)
    return answer


def silent(engine: Engine, session_id: str = "s") -> Silent:
    """Return a session as a rescuer sees it now."""
    [record] = [r for r in engine.sessions() if r.session.id == session_id]
    return Silent(session_id, record.beat)


def sweep(engine: Engine, *watched: Silent) -> Swept:
    """Sweep once, with room for all there is."""
    return engine.sweep(1000, watched)


def counts(engine: Engine, queue: str = QUEUE) -> dict[State, int]:
    """Return a queue's jobs per state, without the states that have none."""
    [record] = [r for r in engine.queues() if r.name == queue]
    return {state: count for state, count in record.counts.items() if count}


def held_of(engine: Engine, key: str = "api") -> int:
    """Return how many claims hold a limit that is configured or was refused."""
    [record] = [r for r in engine.settings("limit") if name_of(r.setting) == key]
    return record.held


def near(instant: float | None, expected: float) -> bool:
    """Return whether two instants are the same to the precision that engines keep."""
    return instant is not None and abs(instant - expected) <= TICK_S


@contextmanager
def refused(error: type[Exception]) -> Iterator[None]:
    """Expect that what is done inside raises `error`."""
    try:
        yield
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


@contextmanager
def armed(bell: Bell) -> Iterator[Bell]:
    """Arm a bell, and close it in the end."""
    bell.arm()
    try:
        yield bell
    finally:
        bell.close()


def rings(bell: Bell, timeout_s: float = RING_S) -> bool:
    """Return whether the bell is readable within so many seconds of real time."""
    readable, _, _ = select.select([bell.fileno()], [], [], timeout_s)
    return bool(readable)
