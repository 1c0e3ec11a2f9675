"""An engine under test beside the memory engine: both are asked the same, both must answer alike.

The clocks are set alike and every claim is known by two tokens, one per engine. What the contract
leaves to the engine is levelled here and nowhere else: the tokens, the order of a repeated claim,
and whether a claim promotes and expires jobs that it does not look at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from cicely.core.edge import Edge
from cicely.core.event import Event
from cicely.core.job import Claim, Enqueued, Filter, Job, NewJob
from cicely.core.outcome import Outcome
from cicely.core.rollup import Cell
from cicely.core.states import State
from cicely.engines.contract import (
    RECEIPT_LEASES,
    Demand,
    Engine,
    Intake,
    QueueRecord,
    Save,
    Session,
    SessionRecord,
    Settled,
    Silent,
    Swept,
    Verdict,
)
from cicely.engines.memory import MemoryEngine
from cicely.errors import BacklogFull, JobNotFound, SessionClosed
from cicely.testing.clock import VirtualClock
from cicely.testing.conformance.harness import Capability, Harness
from cicely.testing.past import cells_of, events_of

Answer = TypeVar("Answer")
Refusal = type[BacklogFull] | type[JobNotFound] | type[SessionClosed]

ALL: Final = 1000
PAGE: Final = 7
MOST_PAGES: Final = 100
#: Durations are compared so; instants that were given are compared exactly.
TICK_S: Final = 0.002

#: The verdicts of which either will do, once the receipt may have been forgotten.
FORGOTTEN: Final = {Verdict.ALREADY, Verdict.STALE}


class Held(msgspec.Struct, frozen=True):
    """A claim that both engines handed out, with the token that each gave it."""

    session_id: str
    job_id: str
    fence: int
    tokens: tuple[bytes, bytes]


class Ending(msgspec.Struct, frozen=True):
    """A claim and how it ends; the outcome's own token is not looked at."""

    held: Held
    outcome: Outcome

    def on(self, side: int) -> Outcome:
        """Return the outcome with the token that one engine gave."""
        return msgspec.structs.replace(self.outcome, token=self.held.tokens[side])


class Snapshot(msgspec.Struct, frozen=True):
    """Everything that can be read from an engine."""

    jobs: Mapping[str, Job | None]
    found: tuple[str, ...]
    failed: tuple[str, ...]
    counts: Mapping[str, Mapping[State, int]]
    paused: tuple[str, ...]
    sessions: tuple[SessionRecord, ...]
    cells: tuple[Cell, ...] = ()
    events: tuple[Event, ...] = ()


class Pair:
    """The memory engine and another, which must not be told apart by their answers."""

    def __init__(self, harness: Harness) -> None:
        self.clock = VirtualClock()
        self._harness = harness
        self._engines: list[Engine] = [MemoryEngine(now=self.clock.now), harness.engine()]
        self._asked: set[str] = set()
        self._requests: set[bytes] = set()
        self._names: dict[bytes, str] = {}
        self._settled_at: dict[bytes, float] = {}
        self._receipts_s = 0.0
        self._snapshot: Snapshot | None = None

    # --- time and faults ------------------------------------------------------------------
    def advance(self, seconds: float) -> None:
        """Move both clocks; backwards for a negative number."""
        self.clock.advance(seconds)
        self._harness.advance(seconds)

    def reopen(self) -> None:
        """Close the engine under test and connect anew."""
        self._engines[1].close()
        self._engines[1] = self._harness.engine()
        self._snapshot = None

    def destroy(self) -> None:
        """Let go of everything."""
        self._harness.destroy()

    # --- verbs ----------------------------------------------------------------------------
    def join(self, session: Session) -> None:
        """Join a session; a closed one must be refused by both."""
        self._receipts_s = max(self._receipts_s, RECEIPT_LEASES * session.lease_s)
        self._ask(lambda engine, _: engine.join(session))

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge] = ()) -> list[Enqueued]:
        """Enqueue on both; nothing is stored where an edge begins or ends nowhere."""
        self._asked.update(new.id for new in jobs)
        return self._ask(lambda engine, _: engine.enqueue(jobs, edges)) or []

    def publish(self, workflow: str) -> None:
        """Publish a workflow on both."""
        self._ask(lambda engine, _: engine.publish(workflow))

    def signal(self, event_id: str, name: str, key: str, value: bytes) -> None:
        """Send an event to both."""
        self._ask(lambda engine, _: engine.signal(event_id, name, key, value))

    def look_behind(self, job_id: str) -> None:
        """Compare a job's parents and steps."""
        self._ask(lambda engine, _: (engine.parents(job_id), engine.steps(job_id)))

    def claim(self, session_id: str, demand: Demand) -> list[Held]:
        """Claim on both; returns what was handed out, nothing where the session is closed."""
        intakes = self._answers(lambda engine, _: engine.claim(session_id, demand))
        return self._held(session_id, demand, intakes)

    def settle(
        self, session_id: str, endings: Sequence[Ending], demand: Demand | None
    ) -> tuple[list[Verdict], list[Held]]:
        """Settle on both and perhaps claim; no verdict where the session is closed."""
        answers = self._answers(
            lambda engine, side: engine.settle(session_id, [e.on(side) for e in endings], demand)
        )
        oracle, subject = answers
        if not isinstance(oracle, Settled) or not isinstance(subject, Settled):
            assert subject is oracle, f"settle: {subject} where {oracle} was right"
            return [], []
        judged = zip(endings, oracle.verdicts, subject.verdicts, strict=True)
        for ending, right, given in judged:
            self._check_verdict(ending, right, given)
        if demand is None:
            return list(subject.verdicts), []
        held = self._held(session_id, demand, [oracle.intake, subject.intake])
        return list(subject.verdicts), held

    def retire(self, session_id: str, endings: Sequence[Ending]) -> None:
        """Retire a session on both."""
        self._ask(lambda engine, side: engine.retire(session_id, [e.on(side) for e in endings]))

    def beat(self, session_id: str, named: Collection[Held], number: int) -> None:
        """Beat for one session, naming some of its claims."""

        def seen(engine: Engine, side: int) -> tuple[bool, list[str], list[str]]:
            [answer] = engine.beat({session_id: [held.tokens[side] for held in named]}, number)
            cancelled = sorted(self._names[token] for token in answer.cancelled)
            return answer.alive, cancelled, sorted(self._names[token] for token in answer.lost)

        self._ask(seen)

    def save(self, held: Held, save: Save) -> list[bool] | None:
        """Save on both under a claim's token."""
        return self._ask(
            lambda engine, side: engine.save(
                held.session_id, [msgspec.structs.replace(save, token=held.tokens[side])]
            )
        )

    def sweep(self, silent: Sequence[Silent] = ()) -> None:
        """Sweep both, with room for all there is."""
        self._ask(lambda engine, _: _without_due_time(engine.sweep(ALL, silent)))

    def steer(self, move: str, job_ids: Sequence[str]) -> list[str]:
        """Steer on both; returns the jobs that moved."""
        return self._ask(lambda engine, _: engine.steer(move, job_ids, reason="by hand")) or []

    def pause(self, queue: str) -> None:
        """Pause a queue on both."""
        self._ask(lambda engine, _: engine.pause(queue))

    def resume(self, queue: str) -> None:
        """Resume a queue on both."""
        self._ask(lambda engine, _: engine.resume(queue))

    def beats(self) -> dict[str, int]:
        """Return the beat of each open session."""
        return {record.session.id: record.beat for record in self._engines[0].sessions()}

    # --- comparing ------------------------------------------------------------------------
    def snapshot(self) -> Snapshot:
        """Return all that the engine under test shows, after comparing it with the oracle's."""
        if self._snapshot is None:
            right, shown = (self._read(engine) for engine in self._engines)
            for name in Snapshot.__struct_fields__:
                ours, theirs = getattr(shown, name), getattr(right, name)
                assert ours == theirs, f"{name}: {_difference(ours, theirs)}"
            self._snapshot = shown
        return self._snapshot

    def _read(self, engine: Engine) -> Snapshot:
        ids = sorted(self._asked)
        records = engine.queues()
        return Snapshot(
            jobs=dict(zip(ids, engine.get(ids), strict=True)),
            found=_all_pages(engine, Filter()),
            failed=_all_pages(engine, Filter(states=(State.FAILED, State.EXPIRED))),
            counts={record.name: _without_zeros(record) for record in records},
            paused=tuple(record.name for record in records if record.paused),
            sessions=tuple(engine.sessions()),
            cells=cells_of(engine, self._harness.capabilities),
            events=events_of(engine, self._harness.capabilities),
        )

    def _ask(self, act: Callable[[Engine, int], Answer]) -> Answer | None:
        """Ask both, compare, and return the answer; None where it was refused."""
        oracle, subject = self._answers(act)
        assert subject == oracle, f"answered {subject} where {oracle} was right"
        return None if isinstance(subject, type) else subject

    def _answers(self, act: Callable[[Engine, int], Answer]) -> list[Answer | Refusal]:
        self._snapshot = None
        return [_answer(act, engine, side) for side, engine in enumerate(self._engines)]

    def _held(self, session_id: str, demand: Demand, intakes: Sequence[Intake | Refusal]) -> list[Held]:
        """Match the claims of both engines, and level what the claim left undone."""
        oracle, subject = intakes
        if not isinstance(oracle, Intake) or not isinstance(subject, Intake):
            assert subject is oracle, f"claim: {subject} where {oracle} was right"
            return []
        claims = [oracle.claims, subject.claims]
        if demand.request in self._requests:
            claims = [tuple(sorted(part, key=lambda claim: claim.job_id)) for part in claims]
        self._check_claims(*claims)
        self._check_due_time(demand, oracle, subject)
        self._requests.add(demand.request)
        held = [
            Held(session_id, right.job_id, right.fence, (right.token, given.token))
            for right, given in zip(*claims, strict=True)
        ]
        for claim in held:
            name = f"{claim.job_id} #{claim.fence}"
            self._names.update(dict.fromkeys(claim.tokens, name))
        if self._has_overdue():
            self._level()
        return held

    def _check_claims(self, right: Sequence[Claim], given: Sequence[Claim]) -> None:
        plain_right = [self._levelled(claim) for claim in right]
        plain_given = [self._levelled(claim) for claim in given]
        assert plain_given == plain_right, f"claimed {plain_given} where {plain_right} was right"

    def _levelled(self, claim: Claim) -> Claim:
        """Return a claim without what engines make up, and without what is not promised."""
        if Capability.FLOW in self._harness.capabilities:
            return msgspec.structs.replace(claim, token=b"")
        return msgspec.structs.replace(claim, token=b"", reason="", keys=())

    def _check_due_time(self, demand: Demand, oracle: Intake, subject: Intake) -> None:
        right, given = oracle.next_due_in_s, subject.next_due_in_s
        assert (given is None) == (right is None), f"next due in {given} s, right: {right}"
        assert abs((given or 0) - (right or 0)) < TICK_S, f"next due in {given} s, right: {right}"

    def _level(self) -> None:
        """Sweep both: a claim may have left more to do on one than on the other."""
        self._snapshot = None
        for engine in self._engines:
            engine.sweep(ALL)

    def _check_verdict(self, ending: Ending, right: Verdict, given: Verdict) -> None:
        token, now = ending.held.tokens[0], self.clock.at
        if right is Verdict.ACCEPTED:
            self._settled_at[token] = now
        if given is right:
            return
        may_differ = {given, right} == FORGOTTEN and self._may_be_forgotten(ending.held)
        assert may_differ, f"{ending}: {given} where {right} was right"

    def _may_be_forgotten(self, held: Held) -> bool:
        """Return whether the contract lets the engine forget how this claim ended."""
        if self._engines[0].get([held.job_id]) == [None]:
            return True
        settled_at = self._settled_at.get(held.tokens[0], self.clock.at)
        return self.clock.at - settled_at > self._receipts_s

    def _has_overdue(self) -> bool:
        now = self.clock.at
        shown = [job for engine in self._engines for job in engine.get(sorted(self._asked)) if job]
        return any(
            (job.due_at is not None and job.due_at <= now)
            or (
                job.state in (State.READY, State.SCHEDULED)
                and job.expires_at is not None
                and job.expires_at <= now
            )
            for job in shown
        )


def _answer(act: Callable[[Engine, int], Answer], engine: Engine, side: int) -> Answer | Refusal:
    try:
        return act(engine, side)
    except (BacklogFull, JobNotFound, SessionClosed) as refusal:
        return type(refusal)


def _all_pages(engine: Engine, where: Filter) -> tuple[str, ...]:
    """Return the ids that a search finds, over all of its pages."""
    ids: list[str] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = engine.find(where, limit=PAGE, cursor=cursor)
        ids.extend(job.id for job in page.jobs)
        cursor = page.cursor
        if cursor is None:
            return tuple(ids)
    raise AssertionError(f"a search did not end within {MOST_PAGES} pages")


def _without_due_time(swept: Swept) -> Swept:
    return msgspec.structs.replace(swept, next_due_in_s=None, now=0.0, newest="")


def _without_zeros(record: QueueRecord) -> dict[State, int]:
    return {state: count for state, count in record.counts.items() if count}


def _difference(given: object, right: object) -> str:
    """Return the parts of two collections that differ, so that a failure can be read."""
    if isinstance(given, Mapping) and isinstance(right, Mapping):
        keys = [key for key in {**given, **right} if given.get(key) != right.get(key)]
        return "; ".join(f"{k}: {given.get(k)} where {right.get(k)} was right" for k in keys)
    return f"{given} where {right} was right"
