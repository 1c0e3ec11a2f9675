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
from collections.abc import Callable, Sequence
from typing import Final

from cicely.core.failpoints import failpoint
from cicely.core.intake import Paces, Turns
from cicely.core.job import Claim
from cicely.core.outcome import HandedBack, Outcome, Stopped
from cicely.engines.contract import Bell, Demand, Intake, Save, Settled, Verdict
from cicely.worker.board import Board
from cicely.worker.calls import Calls
from cicely.worker.desk import Desk, Verbs, insist, insist_until
from cicely.worker.errands import Brought
from cicely.worker.outbox import Outbox
from cicely.worker.pool import Pool
from cicely.worker.processes import boottime
from cicely.worker.saves import Saves
from cicely.worker.standing import Standing
from cicely.worker.wants import Wants

log = logging.getLogger("cicely.worker")

#: An outcome waits so long for company while more work is at hand (adaptive group commit).
GROUP_S: Final = 0.005
#: The supervisor's sweep rings where work waits; this poll is for a bell that nobody can ring.
POLL_S: Final = 10.0
DEAF_POLL_S: Final = 0.25
OVERDUE_S: Final = 0.1

#: What the thread is doing, for those who might wake it: working, waiting for company, waiting; and
#: waiting while another has taken over claims, to be woken when one of them begins and not before.
_AWAKE, _PACING, _IDLE, _PASSED_OVER = range(4)
#: Looking a member up on its class costs as much as a call, and each outcome has a verdict.
_STALE: Final = Verdict.STALE


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
        self.calls = Calls(engine, session_id)
        self._engine = engine
        self._session_id = session_id
        self._board = board
        self._pools = pools
        self._start_s = start_s
        self._wants = Wants(pools, turns, paces=self.paces, max_jobs=max_jobs)
        self._is_over = lambda: self.is_draining
        self._standing = Standing(desk, self._take_brought, is_over=self._is_over) if desk else None
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
    def ear(self, pool: Pool) -> Callable[[], object]:
        """Return what waits until there may be a record in the hand-over of a pool."""
        if self._standing is not None and pool.width == 1:
            return self._standing.ear(pool.handover.read_fd, then=self._note_taken_over)
        poller = select.poll()
        poller.register(pool.handover.read_fd, select.POLLIN)
        return poller.poll

    def _note_taken_over(self) -> None:
        if self._mode == _IDLE and self._wants.has_waiting():
            self._mode = _PASSED_OVER
        else:
            self._wake()

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
        if now > self._held.get(token, 0.0) or now > self._board.deadline_at:
            self._doubted.append((pool, token))
            self._wake()
            return None
        # In this order: between the two it counts twice, which is better than not at all.
        pool.started_at[place] = now
        pool.waiting.pop(token, None)
        if self._mode == _PASSED_OVER or (self._mode == _PACING and not pool.waiting):
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
        # Who stops wants no more: what was claimed without its knowledge is handed back when it retires.
        answer = insist_until(self._is_over, lambda: self._engine.claim(self._session_id, demand))
        return answer or Intake()

    def _take_in(
        self, settled: Settled, outcomes: Sequence[Outcome], demand: Demand | None, sent_at: float
    ) -> None:
        self._note_verdicts(settled, outcomes)
        claims = settled.intake.claims
        self._held.update(dict.fromkeys([claim.token for claim in claims], sent_at + self._start_s))
        self._board.hold(self._held)
        self._done += len(outcomes)
        self._board.finished(self._done)
        if demand is not None:
            self._wants.answered(demand, settled.intake)
        for pool in self._pools:
            pool.take_over(claims)
        if outcomes:
            self._outbox.note_removals()

    def _note_verdicts(self, settled: Settled, outcomes: Sequence[Outcome]) -> None:
        self._outbox.remove(len(outcomes))
        for outcome, verdict in zip(outcomes, settled.verdicts, strict=True):
            token = outcome.token
            self._held.pop(token, None)
            if self._saves.progress:
                self._saves.forget(token)
            if verdict is _STALE:
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
        if self._rest_s() <= 0:
            return
        self._mode = _PACING if self._wants.has_waiting() else _IDLE
        # Once more: what came before the mode was set did not wake anybody.
        rest_s = self._rest_s()
        if rest_s > 0:
            standing = self._leave_demand()
            self._sleep(rest_s, standing)
            if standing is not None:
                standing.collect()
        self._mode = _AWAKE

    def _leave_demand(self) -> Standing | None:
        """Have the clerk claim in the instant of a ring. While something runs others may need the desk."""
        unmet = self._wants.unmet
        if self._standing is None or unmet is None or not self._wants.is_idle() or self._is_overdue():
            return None
        self._standing.leave(unmet)
        return self._standing

    def _take_brought(self, brought: Brought) -> None:
        if brought.has_rung:
            self._wants.appetite.hears()
        if brought.intake.claims:
            failpoint("worker.after-exchange")
            self._take_in(Settled((), brought.intake), [], self._wants.unmet, brought.sent_at)
            failpoint("worker.handed-over")

    def _rest_s(self) -> float:
        """Return for how long there is nothing to do here, unless somebody wakes it."""
        if self._doubted or self._saves.kept or self._is_finished():
            return 0.0
        return self._wait_s()

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

    def _sleep(self, wait_s: float, standing: Standing | None) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        bell_fd = self._bell.fileno() if self._bell is not None else -1
        if bell_fd >= 0:
            poller.register(bell_fd, select.POLLIN)
        if standing is not None and standing.fileno() >= 0:
            poller.register(standing, select.POLLIN)
        ready = {fd for fd, _ in poller.poll(max(1.0, wait_s * 1000))}
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if bell_fd in ready and self._bell is not None:
            self._bell.disarm()
            self._wants.appetite.hears()
        elif not ready and not self._outbox.outcomes and not self._saves.progress:
            # Nothing rang for a whole poll, or a job is due.
            self._wants.appetite.whet()
