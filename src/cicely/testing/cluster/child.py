"""A simulated child: the product's exchange, board and pool, with attempts that only pass the time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from cicely.core.edge import Edge
from cicely.core.flow import Use
from cicely.core.intake import Turns
from cicely.core.job import Claim, Enqueued, Kind, NewJob
from cicely.core.outcome import Crashed, Failed, Outcome, Step, Stopped, Succeeded
from cicely.engines.contract import Bell, Demand, Grant, Intake, Save, Session, Settled
from cicely.errors import EngineError, SessionClosed
from cicely.testing.cluster.jobs import QUEUES, TASKS, Plan
from cicely.testing.cluster.server import Network
from cicely.testing.cluster.world import LEASE_S
from cicely.worker.board import STARTS_WITHIN, Board, Running, job_name
from cicely.worker.exchange import POLL_S, Exchange
from cicely.worker.handover import Handover
from cicely.worker.pool import Pool

if TYPE_CHECKING:
    from cicely.testing.cluster.supervisor import Supervisor

#: A poll and a look of the simulation, which has fewer events than life.
LONG_POLL_S: Final = 3_600.0
TRY_AGAIN_S: Final = 30.0
CANCEL_GRACE_S: Final = 300.0


class Asked(BaseException):
    """A call to the engine, on its way out of the exchange that made it."""

    def __init__(self, outcomes: Sequence[Outcome], demand: Demand | None) -> None:
        super().__init__()
        self.outcomes = list(outcomes)
        self.demand = demand


class _Outside:
    """What the exchange takes for its engine: each call comes out of it as `Asked`."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell

    def claim(self, session_id: str, demand: Demand) -> Intake:
        raise Asked((), demand)

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        raise Asked(outcomes, demand)

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge] = ()) -> list[Enqueued]:
        raise AssertionError("jobs of the simulation leave nothing with the engine while they run")

    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        raise AssertionError("jobs of the simulation leave nothing with the engine while they run")

    def steps(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[Step]:
        raise AssertionError("jobs of the simulation leave nothing with the engine while they run")

    def acquire(self, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
        raise AssertionError("jobs of the simulation take nothing while they run")

    def release(self, session_id: str, token: bytes, request: bytes, spent: Mapping[str, float]) -> None:
        raise AssertionError("jobs of the simulation take nothing while they run")

    def doorbell(self, session_id: str) -> Bell:
        return self._bell


class TurnByTurn(Exchange):
    """The exchange without its thread: `turn` says what it asks, `answer` hands in what it got."""

    def listen(self) -> None:
        """Open the bell, as the thread does first."""
        self._bell = self._engine.doorbell(self._session_id)

    def turn(self, now: float) -> Asked | None:
        """Go on until there is a call to make; None where there is none."""
        self._wants.appetite.look_at(now)
        doubted = self._doubted[0] if self._doubted else None
        try:
            if doubted is not None and not self._is_overdue():
                self._verify_doubted()
            self._exchange()
        except Asked as asked:
            if asked.demand is not None and not asked.demand.asks and doubted is not None:
                self._repeated = doubted
            return asked
        return None

    _repeated: tuple[Pool, bytes] | None = None

    def answer(self, settled: Settled, asked: Asked, sent_at: float) -> None:
        """Take the answer to a call that was sent at `sent_at`."""
        if self._repeated is None:
            self._take_in(settled, asked.outcomes, asked.demand, sent_at)
            return
        (pool, token), self._repeated = self._repeated, None
        if any(claim.token == token for claim in settled.intake.claims):
            self._held[token] = sent_at + self._start_s
            pool.handover.put([token])
        else:
            pool.waiting.pop(token, None)
            self._held.pop(token, None)

    def hear_bell(self) -> None:
        """Note that somebody rang."""
        self._wants.appetite.hears()

    def poll(self) -> None:
        """Note that nobody rang for a whole poll."""
        self._wants.appetite.whet()

    def rest_s(self, now: float) -> float:
        """Return how long there is nothing to do, unless somebody wakes it."""
        wait_s = self._wait_s()
        if self._is_overdue():
            return TRY_AGAIN_S
        if wait_s < POLL_S:
            return max(0.01, wait_s)
        return min(LONG_POLL_S, max(POLL_S, self._wants.appetite.due_at - now))

    @property
    def unsettled(self) -> list[Outcome]:
        """The outcomes that are not with the engine yet."""
        return self._outbox.listed()

    def close(self) -> None:
        """Give back what the thread gives back at its end."""
        import os

        os.close(self._wake_read)
        os.close(self._wake_write)
        if self._bell is not None:
            self._bell.close()


class Attempt(msgspec.Struct):
    """A job's code, as it runs."""

    claim: Claim
    place: int
    is_asked_to_end: bool = False


class Child:
    """One child of a supervisor, with `threads` places for attempts."""

    def __init__(self, supervisor: Supervisor, number: int, *, threads: int) -> None:
        self.supervisor = supervisor
        self.world = supervisor.world
        self.network: Network = supervisor.network
        self.plans: Mapping[str, Plan] = supervisor.plans
        self.name = f"{supervisor.name}/{number}"
        self.session_id = f"{self.name}-{self.world.random.randbytes(3).hex()}"
        self.pid = supervisor.host.new_pid()
        self.is_alive = True
        self.is_dying = False
        self.has_joined = False
        self.status = 0
        self.excuse = ""
        self.outcomes: list[Outcome] = []
        self.cancel_by: dict[bytes, float] = {}
        self.attempts: dict[bytes, Attempt] = {}
        self.stalled_until = 0.0
        self.board = Board.create(threads=threads, coroutines=0)
        self._pool = Pool((Kind.SYNC, Kind.ISOLATED), threads, Handover.create())
        bell = self.network.server.bell(self.session_id, self._rung)
        self._exchange = TurnByTurn(
            _Outside(bell),
            self.session_id,
            board=self.board,
            pools=(self._pool,),
            turns=Turns([[(queue, 1.0) for queue in QUEUES]]),
            start_s=STARTS_WITHIN * LEASE_S,
            max_jobs=0,
            on_lost=self.lose,
        )
        self._is_calling = False
        self._alarm = 0

    # --- as a caller of the engine ------------------------------------------------------------
    @property
    def is_dead(self) -> bool:
        """Whether nobody hears an answer."""
        return not self.is_alive or self.supervisor.is_dead

    @property
    def away_s(self) -> float:
        """For how long its supervisor, which carries out its calls, is stopped."""
        return self.supervisor.away_s

    @property
    def is_cut_off(self) -> bool:
        """Whether its host is."""
        return self.supervisor.is_cut_off

    def join(self) -> None:
        """Register; a child that cannot ends."""
        session = Session(
            id=self.session_id,
            worker=self.supervisor.id,
            tasks=TASKS,
            lease_s=LEASE_S,
            host=self.supervisor.host.facts,
            pid=self.pid,
            start_time=self.pid,
            mark=self.supervisor.mark,
        )
        server = self.network.server
        self.network.call(self, lambda: server.join(session), then=self._joined, fails=self._cannot_work)

    def _joined(self, _: None) -> None:
        self.has_joined = True
        self._exchange.listen()
        self.supervisor.hears_of_join()
        self.wake()

    def _cannot_work(self, error: EngineError) -> None:
        self.excuse = str(error)
        self.die(1)

    # --- the exchange -------------------------------------------------------------------------
    def _rung(self) -> None:
        self._exchange.hear_bell()
        self.world.after(0.0, self.wake)

    def wake(self) -> None:
        """Let the exchange and the places go on."""
        if not self.is_alive or not self.has_joined:
            return
        self._serve()
        while self.is_alive and not self._is_calling:
            asked = self._exchange.turn(self.world.now)
            if asked is None:
                break
            self._call(asked, self.world.now)
        self._alarm += 1
        alarm = self._alarm
        self.world.after(self._exchange.rest_s(self.world.now), lambda: self._rested(alarm))

    def _rested(self, alarm: int) -> None:
        if alarm == self._alarm and self.is_alive and not self._is_calling:
            self._exchange.poll()
            self.wake()

    def _call(self, asked: Asked, sent_at: float) -> None:
        """Make a call, as it was until it is answered."""
        self._is_calling = True
        server, session_id = self.network.server, self.session_id

        def verb() -> Settled:
            if asked.outcomes:
                return server.settle(session_id, asked.outcomes, asked.demand)
            assert asked.demand is not None
            return Settled((), server.claim(session_id, asked.demand))

        def fails(error: EngineError) -> None:
            if isinstance(error, SessionClosed):
                self.world.note(f"{self.name} is told that its session is closed")
                self.die(-9)
            else:
                self.world.after(TRY_AGAIN_S, lambda: self._call(asked, sent_at))

        self.network.call(self, verb, then=lambda answer: self._answered(answer, asked, sent_at), fails=fails)

    def _answered(self, settled: Settled, asked: Asked, sent_at: float) -> None:
        if not self.is_alive:
            return
        self._is_calling = False
        self._exchange.answer(settled, asked, sent_at)
        for claim in settled.intake.claims:
            self.world.note(f"{self.name} has {claim.job_id} #{claim.fence}")
        if settled.intake.claims and self.world.happens(self.network.faults / 3):
            # Something keeps the interpreter: what was claimed starts late.
            self.stalled_until = self.world.now + self.world.between(0, LEASE_S)
            self.world.after(self.stalled_until - self.world.now, self.wake)
        self.wake()

    # --- attempts -----------------------------------------------------------------------------
    def _serve(self) -> None:
        if self.world.now < self.stalled_until:
            return
        while (place := self._free_place()) is not None:
            token = self._pool.handover.take()
            if token is None:
                return
            claim = self._exchange.begin(self._pool, token, place)
            if claim is not None:
                self._start(claim, place)

    def _free_place(self) -> int | None:
        return next((i for i, at in enumerate(self._pool.started_at) if not at), None)

    def _start(self, claim: Claim, place: int) -> None:
        world, plan = self.world, self.plans[claim.job_id]
        world.note(f"{self.name} starts {claim.job_id} #{claim.fence} ({claim.task})")
        self.network.server.ledger.start(claim.job_id, claim.fence, self.name)
        self.attempts[claim.token] = attempt = Attempt(claim, place)
        self.board.start_limited(
            Running(
                slot=place,
                token=claim.token,
                started_at=world.now,
                deadline_at=world.now + plan.timeout_s if plan.timeout_s else 0.0,
                timeout_retry_s=plan.timeout_retry_s(claim.tallies.errors),
                pid=self.supervisor.host.new_pid() if claim.kind is Kind.ISOLATED else 0,
                job_name=job_name(claim.job_id),
            )
        )
        goes_badly = claim.tallies.attempt <= plan.bad
        if goes_badly and plan.ends == "hangs":
            world.after(plan.timeout_s + 1.0, self.supervisor.look)
        else:
            world.after(plan.runs_s, lambda: self._end(attempt, plan, goes_badly=goes_badly))

    def _end(self, attempt: Attempt, plan: Plan, *, goes_badly: bool) -> None:
        claim = attempt.claim
        if self.attempts.get(claim.token) is not attempt:
            return
        if not goes_badly:
            self.finish(attempt, Succeeded(claim.token, b"result"))
        elif plan.ends == "fails":
            wait_s = plan.retry_s(claim.tallies.errors, chance=self.world.random.random())
            self.finish(attempt, Failed(claim.token, "error", b"boom", wait_s))
        elif claim.kind is Kind.ISOLATED:
            self.finish(attempt, Crashed(claim.token, "exited with 3"))
        else:
            self.world.note(f"{claim.job_id} kills {self.name}")
            self.die(3)

    def finish(self, attempt: Attempt, outcome: Outcome | None) -> None:
        """End an attempt; None: its claim was lost, nobody wants its outcome."""
        claim, ledger = attempt.claim, self.network.server.ledger
        del self.attempts[claim.token]
        self.world.note(f"{self.name} ends {claim.job_id} #{claim.fence}: {type(outcome).__name__}")
        if outcome is None:
            ledger.cut_short(claim.job_id, claim.fence)
        else:
            ledger.end(claim.job_id)
        self.board.clear(attempt.place)
        self._exchange.paces.ran(claim.task, self.world.now - self._pool.started_at[attempt.place])
        self._exchange.finish(self._pool, attempt.place, outcome)
        self.wake()

    # --- the supervisor's words ---------------------------------------------------------------
    def lose(self, tokens: Collection[bytes]) -> None:
        """Drop claims that are no longer this child's."""
        self._exchange.forget(tuple(tokens))
        for token in tokens:
            if token in self.attempts:
                self.finish(self.attempts[token], None)
        self.wake()

    def cancel(self, tokens: Collection[bytes], *, by: float) -> None:
        """Ask attempts to end; some do, the others are killed when the grace is over."""
        for token in [token for token in tokens if token not in self.cancel_by]:
            self.cancel_by[token] = by
            self._exchange.cancel(token)
            if token in self.attempts and self.world.happens(0.7):
                self.finish(self.attempts[token], Stopped(token, "asked to"))
        self.world.after(by - self.world.now + 1.0, self.supervisor.look)

    # --- death --------------------------------------------------------------------------------
    def die(self, status: int) -> None:
        """End at once, with all that runs here."""
        if not self.is_alive:
            return
        self.world.note(f"{self.name} dies ({status})")
        self.is_alive = False
        self.status = status
        ledger = self.network.server.ledger
        for attempt in self.attempts.values():
            ledger.cut_short(attempt.claim.job_id, attempt.claim.fence)
        for outcome in self._exchange.unsettled:
            ledger.lost_outcome(outcome.token)
        self.attempts.clear()
        self.supervisor.host.pids.discard(self.pid)
        self.supervisor.hears_of_death(self)

    def close(self) -> None:
        """Give everything back but the board."""
        self._exchange.close()
        self._pool.handover.close()
