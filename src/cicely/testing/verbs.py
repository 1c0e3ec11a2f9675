"""The random verbs of plain jobs, sessions and messages."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from cicely.core.edge import Edge
from cicely.core.job import Job, Kind, NewJob
from cicely.core.outcome import Outcome
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand, Save, Session, Silent, Verdict
from cicely.testing.choices import (
    ASKS,
    BACK,
    CLOCK_STEPS,
    LEASE_S,
    OUTCOMES,
    QUEUES,
    SLOT_KINDS,
    plain_job,
)
from cicely.testing.invariants import Invariants
from cicely.testing.pair import Ending, Held

Thing = TypeVar("Thing")


class EngineMachine(Invariants):
    """What clients may do to an engine, in any order, and what must then hold."""

    # --- sessions -------------------------------------------------------------------------
    @initialize()
    def begin(self) -> None:
        """Start with two sessions and some jobs, so that short examples reach something."""
        self.join()
        self.join()
        self._enqueue([plain_job(n) for n in range(3)])

    @rule()
    def join(self) -> None:
        """Join a new session."""
        self.sessions.append(f"s{len(self.sessions)}")
        self._join(self.sessions[-1])

    @rule(back=BACK)
    def join_again(self, back: int) -> None:
        """Repeat a join, perhaps of a session that was closed in the meantime."""
        self._join(latest(self.sessions, back))

    def _join(self, session_id: str) -> None:
        tasks = frozenset({"work", "other", ""})
        self.pair.join(Session(id=session_id, worker="boss", tasks=tasks, lease_s=LEASE_S))

    @rule(back=BACK, named=st.integers(0, 255), step=st.sampled_from([1, 1, 1, 2, 0, -2]))
    def beat(self, back: int, named: int, step: int) -> None:
        """Beat for a session that names some of its claims, perhaps late, perhaps with a number left out."""
        session_id = self._session(back)
        mine = [held for held in self.claims if held.session_id == session_id][-8:]
        some = [held for n, held in enumerate(mine) if named >> n & 1]
        self.pair.beat(session_id, some, self._number(session_id) + step)

    @rule(back=BACK)
    def beat_for_all_that_is_held(self, back: int) -> None:
        """Beat as a healthy session does."""
        session_id = self._session(back)
        held = [h for h in self.claims if h.session_id == session_id]
        self.pair.beat(session_id, held, self._number(session_id) + 1)

    def _number(self, session_id: str) -> int:
        return self.pair.beats().get(session_id, 0)

    @rule(back=BACK, outcome=OUTCOMES, count=st.integers(0, 2))
    def retire(self, back: int, outcome: Outcome, count: int) -> None:
        """Retire a session, with outcomes for some of its claims."""
        session_id = latest(self.sessions, back)
        mine = [held for held in self.claims if held.session_id == session_id]
        endings = [Ending(held, outcome) for held in mine[-count:]] if count else []
        if session_id in self.pair.beats():
            holders = self._would_be_accepted(endings)
            self._note([ending for ending in endings if ending.held in holders], holders)
        self.pair.retire(session_id, endings)

    @rule(back=BACK)
    def watch(self, back: int) -> None:
        """Note a session's beat, as a rescuer does."""
        session_id = latest(self.sessions, back)
        self.watched.append(Silent(session_id, self.pair.beats().get(session_id, 0)))

    @precondition(lambda self: self.watched)
    @rule(back=BACK)
    def rescue(self, back: int) -> None:
        """Rescue by a beat that may be stale by now."""
        self.pair.sweep([latest(self.watched, back)])

    @rule(back=BACK)
    def rescue_at_once(self, back: int) -> None:
        """Rescue by the present beat."""
        session_id = latest(self.sessions, back)
        self.pair.sweep([Silent(session_id, self.pair.beats().get(session_id, 0))])

    # --- jobs -----------------------------------------------------------------------------
    @rule(
        count=st.integers(1, 4),
        task=st.sampled_from(["work", "work", "work", "other", "unknown"]),
        kind=st.sampled_from(SLOT_KINDS),
        queue=st.sampled_from(QUEUES),
        priority=st.sampled_from([0, 5, 5, 9]),
        delay_s=st.sampled_from([0.0, 0.0, 0.0, 10.0625, 100.0625]),
        expires_s=st.sampled_from([None, None, None, 15.0625]),
        unique=st.sampled_from(["", "", "key", "other key"]),
        remember_s=st.sampled_from([0.0, 1e7 + 0.0625]),
        ageing_s=st.sampled_from([0.0, 0.0, 60.0]),
        watched=st.booleans(),
        is_reply_lost=st.booleans(),
    )
    def enqueue(self, count: int, *, is_reply_lost: bool, **options: Any) -> None:
        """Enqueue new jobs; where the reply is lost, the same again."""
        first = len(self.jobs)
        new = [msgspec.structs.replace(plain_job(first + n), **options) for n in range(count)]
        self._enqueue(new)
        if is_reply_lost:
            assert not any(answer.fresh for answer in self.pair.enqueue(new))

    @rule(priority=st.sampled_from([5, 9]), delay_s=st.sampled_from([0.0, 10.0625]))
    def send(self, priority: int, delay_s: float) -> None:
        """Send a message."""
        message = NewJob(
            id=f"m{len(self.jobs)}",
            task="",
            kind=Kind.MESSAGE,
            queue="main",
            priority=priority,
            delay_s=delay_s,
            keep_s=300.0625,
            max_receives=2,
        )
        self._enqueue([message])

    def _enqueue(self, new: list[NewJob]) -> None:
        self._enqueue_all(new, [])

    def _enqueue_all(self, new: list[NewJob], edges: list[Edge]) -> None:
        answers = self.pair.enqueue(new, edges)
        stored = {answer.id for answer in answers if answer.fresh}
        self.jobs.extend(job for job in new if job.id in stored)

    @precondition(lambda self: self.jobs)
    @rule(back=BACK, unique=st.sampled_from(["", "key"]))
    def enqueue_again(self, back: int, unique: str) -> None:
        """Enqueue under an id that was used before; it may be forgotten by now."""
        again = msgspec.structs.replace(
            latest(self.jobs, back), body=b"again", unique=unique, remember_s=1e7 + 0.0625
        )
        for answer in self.pair.enqueue([again]):
            if answer.fresh:
                self._forget(again.id)

    def _forget(self, job_id: str) -> None:
        """Begin the history of an id anew: another job has taken it."""
        self.gone.discard(job_id)
        self.fences.pop(job_id, None)
        self.ends.pop(job_id, None)

    @rule(
        back=BACK,
        asks=st.lists(ASKS, min_size=1, max_size=2),
        queues=st.sampled_from([QUEUES, QUEUES[::-1], QUEUES[:1]]),
        visibility_s=st.sampled_from([None, None, 20.0625]),
    )
    def claim(self, back: int, asks: list[Ask], queues: tuple[str, ...], visibility_s: float | None) -> None:
        """Claim for a session, which may have been closed while the request was in flight."""
        demand = self._demand(asks, queues, visibility_s)
        self._claim(self._session(back), demand)

    @rule(back=BACK, count=st.integers(1, 5))
    def claim_anything(self, back: int, count: int) -> None:
        """Claim jobs and messages of all kinds."""
        asks = [Ask(SLOT_KINDS, count), Ask((Kind.MESSAGE,), count)]
        self._claim(self._session(back), self._demand(asks, QUEUES, None))

    @rule(back=BACK, outcomes=st.lists(OUTCOMES, min_size=1, max_size=4))
    def run(self, back: int, outcomes: list[Outcome]) -> None:
        """Claim jobs and settle each with an outcome of its own, as a healthy worker does."""
        session_id = self._session(back)
        before = len(self.claims)
        # Short enough for turns of several.
        asks = [Ask(SLOT_KINDS, 1, {"work": 0.0007, "other": 0.0002}, 1.0, len(outcomes))]
        self._claim(session_id, self._demand(asks, QUEUES, None))
        endings = [Ending(h, o) for h, o in zip(self.claims[before:], outcomes, strict=False)]
        self._settle(session_id, endings)

    def _claim(self, session_id: str, demand: Demand) -> None:
        self.requests.append((session_id, demand))
        self._keep(self.pair.claim(session_id, demand))

    def _session(self, back: int) -> str:
        """Return a session, more often an open one."""
        opened = list(self.pair.beats())
        return latest(self.sessions if back % 4 == 0 or not opened else opened, back)

    @precondition(lambda self: self.requests)
    @rule(back=BACK)
    def claim_again(self, back: int) -> None:
        """Repeat a claim."""
        session_id, demand = latest(self.requests, back)
        self._keep(self.pair.claim(session_id, demand))

    def _demand(self, asks: list[Ask], queues: tuple[str, ...], visibility_s: float | None) -> Demand:
        request = (1 + len(self.requests)).to_bytes(8, "big")
        return Demand(request, queues, tuple(asks), visibility_s)

    def _keep(self, claims: list[Held]) -> None:
        known = {held.tokens for held in self.claims}
        self.claims.extend(held for held in claims if held.tokens not in known)

    # --- outcomes -------------------------------------------------------------------------
    @precondition(lambda self: self.claims)
    @rule(back=BACK, outcome=OUTCOMES, is_repeated=st.booleans())
    def settle(self, back: int, outcome: Outcome, *, is_repeated: bool) -> None:
        """Settle one of the latest claims, which may long be another's."""
        ending = Ending(latest(self.claims, back), outcome)
        self._settle(ending.held.session_id, [ending] * (1 + is_repeated))

    @precondition(lambda self: self.claims)
    @rule(count=st.integers(1, 6), outcome=OUTCOMES)
    def settle_many(self, count: int, outcome: Outcome) -> None:
        """Settle the latest claims in one call, as a supervisor does for several sessions."""
        self._settle("boss", [Ending(held, outcome) for held in self.claims[-count:]])

    @precondition(lambda self: self.claims)
    @rule(back=BACK, outcome=OUTCOMES, ask=ASKS)
    def settle_and_claim(self, back: int, outcome: Outcome, ask: Ask) -> None:
        """Settle a claim and take the next jobs in one call."""
        ending = Ending(latest(self.claims, back), outcome)
        demand = self._demand([ask], QUEUES, None)
        self.requests.append((ending.held.session_id, demand))
        self._settle(ending.held.session_id, [ending], demand)

    @precondition(lambda self: self.endings)
    @rule(back=BACK)
    def settle_again(self, back: int) -> None:
        """Repeat an outcome whose answer was lost."""
        ending = latest(self.endings, back)
        self._settle(ending.held.session_id, [ending])

    def _settle(self, session_id: str, endings: list[Ending], demand: Demand | None = None) -> None:
        holders = self._would_be_accepted(endings)
        verdicts, claims = self.pair.settle(session_id, endings, demand)
        accepted = [e for e, v in zip(endings, verdicts, strict=False) if v is Verdict.ACCEPTED]
        self._note(accepted, holders)
        self._keep(claims)

    def _would_be_accepted(self, endings: list[Ending]) -> list[Held]:
        """Return the claims that still hold their job, by what the engine shows."""
        jobs = self.pair.snapshot().jobs
        return [e.held for e in endings if _holds(e.held, jobs.get(e.held.job_id))]

    def _note(self, accepted: list[Ending], holders: list[Held]) -> None:
        for ending in accepted:
            self.endings.append(ending)
            if ending.held not in holders:
                self.stale_accepted.append(ending)

    # --- running jobs and steering --------------------------------------------------------
    @precondition(lambda self: self.claims)
    @rule(
        back=BACK,
        progress=st.sampled_from([None, b"half"]),
        checkpoint=st.sampled_from([None, b"", b"state"]),
        visibility_s=st.sampled_from([None, None, 40.0625]),
    )
    def save(
        self,
        back: int,
        progress: bytes | None,
        checkpoint: bytes | None,
        visibility_s: float | None,
    ) -> None:
        """Save something under one of the latest claims."""
        self.pair.save(latest(self.claims, back), Save(b"", progress, checkpoint, visibility_s))

    @precondition(lambda self: self.jobs)
    @rule(back=BACK, count=st.integers(1, 4), move=st.sampled_from(["cancel", "revive", "revive"]))
    def steer(self, back: int, count: int, move: str) -> None:
        """Cancel or revive a few jobs."""
        moved = self.pair.steer(move, self._some(back, count))
        if moved and move == "revive":
            self._forget_undone_ends()

    def _forget_undone_ends(self) -> None:
        """Forget the ends of all that a revival brought back: the jobs themselves, and those after them."""
        jobs = self.pair.snapshot().jobs
        self.ends = {
            k: end for k, end in self.ends.items() if (job := jobs.get(k)) is None or job.state.is_final
        }

    @precondition(lambda self: self.jobs)
    @rule(back=BACK, count=st.integers(1, 2))
    def discard(self, back: int, count: int) -> None:
        """Delete a few ended jobs."""
        self.gone.update(self.pair.steer("discard", self._some(back, count)))

    def _some(self, back: int, count: int) -> list[str]:
        return [latest(self.jobs, back + n).id for n in range(count)]

    @rule(queue=st.sampled_from(["main", "side", "side"]))
    def pause(self, queue: str) -> None:
        """Pause a queue."""
        self.pair.pause(queue)

    @rule()
    def resume(self) -> None:
        """Resume the queues."""
        self.pair.resume("main")
        self.pair.resume("side")

    # --- time and faults ------------------------------------------------------------------
    @rule()
    def sweep(self) -> None:
        """Sweep without a rescue."""
        self.pair.sweep()

    @rule(seconds=CLOCK_STEPS)
    def advance(self, seconds: float) -> None:
        """Let time pass, or step back a little."""
        self.pair.advance(seconds)

    @rule()
    def crash_and_reopen(self) -> None:
        """Lose every connection to the engine under test."""
        self.pair.reopen()


def latest(things: list[Thing], back: int) -> Thing:
    """Return one of the latest things, counted from the end."""
    return things[-1 - back % len(things)]


def _holds(held: Held, job: Job | None) -> bool:
    """Return whether a claim is the one under which its job runs."""
    if job is None or job.state is not State.RUNNING:
        return False
    return (job.session, job.fence) == (held.session_id, held.fence)
