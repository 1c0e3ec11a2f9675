"""The child's one conversation with the engine: settle, claim and save, in a thread of its own.

Attempts end in other threads and leave their outcomes here; claims go out through the hand-over.
One call settles what has ended and claims what can start next. A call that got no answer is
repeated as it was until it has one, and no other claim is made before.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from cicely.core.edge import Edge
from cicely.core.failpoints import failpoint
from cicely.core.flow import Use
from cicely.core.intake import Paces, Turns
from cicely.core.job import Claim, Enqueued, NewJob
from cicely.core.outcome import HandedBack, Outcome, Step, Stopped
from cicely.engines.contract import Bell, Demand, Grant, Intake, Save, Settled, Verdict
from cicely.worker.board import Board
from cicely.worker.desk import Desk, Verbs, insist
from cicely.worker.errands import Brought
from cicely.worker.outbox import Outbox
from cicely.worker.pool import Pool
from cicely.worker.processes import boottime
from cicely.worker.saves import Saves
from cicely.worker.wants import Wants

log = logging.getLogger("cicely.worker")

#: An outcome waits so long for company while more work is at hand (adaptive group commit).
GROUP_S: Final = 0.005
#: The supervisor's sweep rings where work waits; this poll is for a bell that nobody can ring.
POLL_S: Final = 10.0
STEPS_PAGE: Final = 200
DEAF_POLL_S: Final = 0.25
OVERDUE_S: Final = 0.1

#: What the thread is doing, for those who might wake it: working, waiting for company, waiting.
_AWAKE, _PACING, _IDLE = range(3)


class Exchange:
    """Owns the engine in this child.

    `on_lost` is called, in the exchange's thread, with tokens whose claims no longer hold.
    """

    def __init__(
        self,
        engine: Verbs,
        session_id: str,
        *,
        board: Board,
        pools: tuple[Pool, ...],
        turns: Turns,
        start_s: float,
        max_jobs: int,
        on_lost: Callable[[tuple[bytes, ...]], None],
        desk: Desk | None = None,
    ) -> None:
        self.paces = Paces()
        self.is_draining = False
        self.stale = 0
        self._engine = engine
        self._session_id = session_id
        self._board = board
        self._pools = pools
        self._start_s = start_s
        self._wants = Wants(pools, turns, paces=self.paces, max_jobs=max_jobs)
        self._desk = desk
        self._on_lost = on_lost
        self._outbox = Outbox()
        self._saves = Saves()
        #: The claims of this child, and until when each may start without asking again.
        self._held: dict[bytes, float] = {}
        self._cancelled: set[bytes] = set()
        self._doubted: deque[tuple[Pool, bytes]] = deque()
        self._done = 0
        self._mode = _AWAKE
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._bell: Bell | None = None

    # --- called by whoever runs attempts ------------------------------------------------------
    def begin(self, pool: Pool, token: bytes, place: int) -> Claim | None:
        """Return the claim behind a record of the hand-over, to be started now, in this place.

        None: it is no longer this child's, or that must be asked first (it comes again).
        """
        claim = pool.waiting.get(token)
        if claim is None:
            return None
        if token in self._cancelled:
            self._cancelled.discard(token)
            self._outbox.add(Stopped(token, "cancelled before it started"))
            pool.waiting.pop(token, None)
            self._wake()
            return None
        now = boottime()
        if now > min(self._held.get(token, 0.0), self._board.deadline_at):
            self._doubted.append((pool, token))
            self._wake()
            return None
        # In this order: between the two it counts twice, which is better than not at all.
        pool.started_at[place] = now
        pool.waiting.pop(token, None)
        if self._mode == _PACING and len(pool.waiting) == 0:
            self._wake()
        return claim

    def must_flush_before(self, task: str) -> bool:
        """Return whether outcomes wait that must not wait behind a job of `task`."""
        return bool(self._outbox.outcomes) and not self.paces.is_short(task)

    def flush(self) -> None:
        """Wait until every outcome given so far is with the engine."""
        self._outbox.flush(self._wake)

    def finish(self, pool: Pool, place: int, outcome: Outcome | None) -> None:
        """Take the outcome of the attempt in a place, and the place back.

        The outcome is settled at once, or with others under load. None: it would be refused, the
        claim is no longer this child's.
        """
        if outcome is not None:
            self._outbox.add(outcome)
        else:
            self._wants.appetite.whet()
        pool.started_at[place] = 0.0
        self._wake_if_resting()

    def _wake_if_resting(self) -> None:
        if self._mode != _AWAKE and (self._mode == _IDLE or self._wants.is_low()):
            self._wake()

    def report(self, token: bytes, progress: bytes) -> None:
        """Take progress; the newest of each attempt is saved a few times a second."""
        self._saves.report(token, progress)
        if self._mode == _IDLE:
            self._wake()

    def keep(self, save: Save) -> bool:
        """Save a checkpoint or a step and return, when it is durable, whether the claim still held."""
        waiting = self._saves.keep(save)
        self._wake()
        waiting.done.wait()
        return waiting.held

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> Sequence[Enqueued]:
        """Enqueue what a running job adds."""
        return insist(lambda: self._engine.enqueue(jobs, edges))

    def acquire(self, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
        """Take some of limits for a claim. Raises SessionClosed where it no longer holds."""
        return insist(lambda: self._engine.acquire(self._session_id, token, request, uses))

    def release(self, token: bytes, request: bytes, spent: Mapping[str, float]) -> None:
        """Give back what was acquired."""
        insist(lambda: self._engine.release(self._session_id, token, request, spent))

    def steps(self, job_id: str) -> list[Step]:
        """Return all the recorded steps of a job."""
        steps: list[Step] = []
        while True:
            after = len(steps)
            steps += insist(partial(self._engine.steps, job_id, after=after, limit=STEPS_PAGE))
            if len(steps) < after + STEPS_PAGE:
                return steps

    # --- called by the child's control thread -------------------------------------------------
    def drain(self) -> None:
        """Claim no more; `run` returns when everything that was started has been settled."""
        self.is_draining = True
        self._wake()

    def give_back(self, reason: str) -> None:
        """Give back, free, every claim that has not started."""
        for pool in self._pools:
            for token in pool.handover.take_all():
                if token in pool.waiting:
                    self._outbox.add(HandedBack(token, reason))
                    pool.waiting.pop(token, None)
        self._wake()

    def forget(self, tokens: tuple[bytes, ...]) -> None:
        """Drop claims that somebody else gave back."""
        for token in tokens:
            self._wants.remaining += sum(1 for pool in self._pools if pool.waiting.pop(token, None))
            self._held.pop(token, None)
            self._saves.forget(token)
            self._cancelled.discard(token)
        self._wake()

    def cancel(self, token: bytes) -> None:
        """Let a claim that has not started end as cancelled when its turn comes."""
        if any(token in pool.waiting for pool in self._pools):
            self._cancelled.add(token)

    def _wake(self) -> None:
        self._mode = _AWAKE
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            return

    # --- the thread ---------------------------------------------------------------------------
    def run(self) -> None:
        """Serve until drained. Raises SessionClosed when the engine has given this session up."""
        self._bell = self._engine.doorbell(self._session_id)
        try:
            while not self._is_finished():
                self._save_all()
                self._verify_doubted()
                self._exchange()
                self._rest()
        finally:
            self._outbox.close()
            self._bell.close()

    def _is_finished(self) -> bool:
        if not self.is_draining and self._wants.remaining > 0:
            return False
        if self._outbox.outcomes or self._saves.kept:
            return False
        return self._wants.is_idle()

    def _exchange(self) -> None:
        demand = self._demand()
        if demand is None:
            if not self._outcomes_due():
                return
            # Places got free: what did not fit before may fit now, and only a demand arms the bell.
            self._wants.appetite.whet()
            demand = self._demand()
        outcomes = self._outbox.listed()
        failpoint("worker.before-exchange")
        sent_at = boottime()
        if outcomes:
            settled = insist(lambda: self._engine.settle(self._session_id, outcomes, demand))
        elif demand is not None:
            settled = Settled((), self._claim(demand))
        failpoint("worker.after-exchange")
        self._take_in(settled, outcomes, demand, sent_at)
        failpoint("worker.handed-over")

    def _claim(self, demand: Demand) -> Intake:
        return insist(lambda: self._engine.claim(self._session_id, demand))

    def _take_in(
        self, settled: Settled, outcomes: list[Outcome], demand: Demand | None, sent_at: float
    ) -> None:
        self._note_verdicts(settled, outcomes)
        claims = settled.intake.claims
        for claim in claims:
            self._held[claim.token] = sent_at + self._start_s
        self._board.hold(self._held)
        self._done += len(outcomes)
        self._board.finished(self._done)
        if demand is not None:
            self._wants.answered(demand, settled.intake)
        for pool in self._pools:
            pool.take_over(claims)
        if outcomes:
            self._outbox.note_removals()

    def _note_verdicts(self, settled: Settled, outcomes: list[Outcome]) -> None:
        for outcome, verdict in zip(outcomes, settled.verdicts, strict=True):
            self._outbox.outcomes.popleft()
            self._held.pop(outcome.token, None)
            self._saves.forget(outcome.token)
            if verdict is Verdict.STALE:
                self.stale += 1
                log.warning("an outcome came too late and was refused: %s", type(outcome).__name__)

    # --- what to ask for ----------------------------------------------------------------------
    def _demand(self) -> Demand | None:
        if self.is_draining or self._is_overdue():
            return None
        demand = self._wants.demand()
        if demand is None or self._bell is None:
            return demand
        if any(ask.slots for ask in demand.asks) and not self._wants.has_waiting():
            # Armed before looking: a job that comes after the look rings.
            self._bell.arm()
            self._wants.appetite.listens()
        return demand

    def _is_overdue(self) -> bool:
        """Whether no beat was acknowledged for so long that nothing may be started."""
        return boottime() > self._board.deadline_at

    def _outcomes_due(self) -> bool:
        if not self._outbox.outcomes:
            return False
        if self._outbox.is_wanted_empty or self.is_draining or self._wants.is_low():
            return True
        return time.monotonic() - self._outbox.oldest_at >= GROUP_S

    # --- keeping ------------------------------------------------------------------------------
    def _save_all(self) -> None:
        saves = self._saves.due()
        if not saves:
            return
        failpoint("worker.before-save")
        held = insist(lambda: self._engine.save(self._session_id, saves))
        failpoint("worker.after-save")
        lost = self._saves.note(saves, held)
        if lost:
            self._on_lost(lost)

    def _verify_doubted(self) -> None:
        """Repeat the requests of claims that got old before they started; keep what still holds."""
        while self._doubted:
            if self._is_overdue():
                time.sleep(OVERDUE_S)
            pool, token = self._doubted.popleft()
            request = Demand(token[:8], (), ())
            sent_at = boottime()
            intake = self._claim(request)
            if any(claim.token == token for claim in intake.claims):
                self._held[token] = sent_at + self._start_s
                pool.handover.put([token])
            else:
                pool.waiting.pop(token, None)
                self._held.pop(token, None)

    # --- waiting ------------------------------------------------------------------------------
    def _rest(self) -> None:
        """Wait until there is something to say to the engine, or something to hear from it."""
        self._wants.appetite.look_at(time.monotonic())
        if not self._may_rest():
            return
        is_pacing = any(pool.waiting for pool in self._pools)
        self._mode = _PACING if is_pacing else _IDLE
        # Once more: what came before the mode was set did not wake anybody.
        if self._may_rest():
            desk = self._leave_demand()
            self._sleep(self._wait_s(), desk)
            if desk is not None:
                self._collect(desk.collect())
        self._mode = _AWAKE

    def _leave_demand(self) -> Desk | None:
        """Have the clerk claim in the instant of a ring. While something runs others may need the desk."""
        unmet = self._wants.unmet
        if self._desk is None or unmet is None or not self._wants.is_idle() or self._is_overdue():
            return None
        self._desk.leave(unmet)
        return self._desk

    def _collect(self, brought: Brought) -> None:
        if brought.has_rung:
            self._wants.appetite.hears()
        if brought.intake.claims:
            failpoint("worker.after-exchange")
            self._take_in(Settled((), brought.intake), [], self._wants.unmet, brought.sent_at)
            failpoint("worker.handed-over")

    def _may_rest(self) -> bool:
        if self._doubted or self._saves.kept or self._is_finished():
            return False
        return self._wait_s() > 0

    def _wait_s(self) -> float:
        now = time.monotonic()
        waits = [POLL_S]
        if self._outbox.outcomes:
            if self._outcomes_due():
                return 0.0
            waits.append(self._outbox.oldest_at + GROUP_S - now)
        if self._saves.progress:
            waits.append(self._saves.progress_due_in_s())
        if self._is_overdue():
            waits.append(OVERDUE_S)
        elif not self.is_draining and self._wants.is_any():
            return 0.0
        if not self._wants.appetite.is_whetted and not self.is_draining:
            waits.append(self._wants.appetite.due_at - now)
            if self._bell is None or self._bell.fileno() < 0:
                waits.append(DEAF_POLL_S)
        return min(waits)

    def _sleep(self, wait_s: float, desk: Desk | None) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        bell_fd = self._bell.fileno() if self._bell is not None else -1
        if bell_fd >= 0:
            poller.register(bell_fd, select.POLLIN)
        if desk is not None:
            poller.register(desk, select.POLLIN)
        ready = {fd for fd, _ in poller.poll(max(1.0, wait_s * 1000))}
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if bell_fd in ready and self._bell is not None:
            self._bell.disarm()
            self._wants.appetite.hears()
        elif not ready and not self._outbox.outcomes and not self._saves.progress:
            # Nothing rang for a whole poll, or a job is due.
            self._wants.appetite.whet()
