"""The child's one conversation with the engine: settle, claim and save, in a thread of its own.

Attempts end in other threads and leave their outcomes here; claims go out through the hand-over.
One call settles what has ended and claims what can start next. A call that got no answer is
repeated as it was until it has one, and no other claim is made before.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from cicely.core.failpoints import failpoint
from cicely.core.intake import BUFFER_JOBS, BUFFER_S, Paces, Turns
from cicely.core.job import Claim, Kind
from cicely.core.outcome import HandedBack, Outcome, Stopped
from cicely.engines.contract import Ask, Bell, Demand, Intake, Save, Settled, Verdict
from cicely.errors import EngineUnavailable
from cicely.worker.appetite import Appetite
from cicely.worker.board import Board
from cicely.worker.desk import Verbs
from cicely.worker.handover import Handover
from cicely.worker.processes import boottime

log = logging.getLogger("cicely.worker")

#: An outcome waits so long for company while more work is at hand (adaptive group commit).
GROUP_S: Final = 0.005
PROGRESS_S: Final = 0.2
#: The supervisor's sweep rings where work waits; this poll is for a bell that nobody can ring.
POLL_S: Final = 10.0
DEAF_POLL_S: Final = 0.25
OVERDUE_S: Final = 0.1
_BACKOFF_S: Final = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)

#: What the thread is doing, for those who might wake it: working, waiting for company, waiting.
_AWAKE, _PACING, _IDLE = range(3)

T = TypeVar("T")


class Pool:
    """Some places where attempts run, the kinds of job they take, and the hand-over before them."""

    def __init__(self, kinds: tuple[Kind, ...], width: int, handover: Handover) -> None:
        self.kinds = kinds
        self.width = width
        self.handover = handover
        self.waiting: dict[bytes, Claim] = {}
        #: With so few claims left to start, outcomes no longer wait for company.
        self.low = width
        #: Per place, when its attempt started; 0 where none runs.
        self.started_at = [0.0] * width

    @property
    def active(self) -> int:
        """How many attempts run."""
        return sum(1 for at in self.started_at if at)


class _Checkpoint:
    """A checkpoint on its way, and whether it arrived."""

    def __init__(self, save: Save) -> None:
        self.save = save
        self.done = threading.Event()
        self.held = False


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
        beat_s: float,
        max_jobs: int,
        on_lost: Callable[[tuple[bytes, ...]], None],
    ) -> None:
        self.paces = Paces()
        self.is_draining = False
        self.stale = 0
        self._engine = engine
        self._session_id = session_id
        self._board = board
        self._pools = pools
        self._turns = turns
        self._beat_s = beat_s
        self._remaining = max_jobs or 1 << 60
        self._on_lost = on_lost
        self._outcomes: deque[Outcome] = deque()
        self._first_outcome_at = self._progress_at = 0.0
        self._progress: dict[bytes, Save] = {}
        self._checkpoints: deque[_Checkpoint] = deque()
        #: The claims of this child, and until when each may start without asking again.
        self._held: dict[bytes, float] = {}
        self._cancelled: set[bytes] = set()
        self._doubted: deque[tuple[Pool, bytes]] = deque()
        self._done = 0
        self._is_over = False
        self._appetite = Appetite()
        self._mode = _AWAKE
        self._flushed = threading.Condition()
        self._flush_wanted = False
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
            self._add(Stopped(token, "cancelled before it started"))
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
        return bool(self._outcomes) and not self.paces.is_short(task)

    def flush(self) -> None:
        """Wait until every outcome given so far is with the engine."""
        with self._flushed:
            while self._outcomes and not self._is_over:
                self._flush_wanted = True
                self._wake()
                self._flushed.wait(1.0)

    def finish(self, pool: Pool, place: int, outcome: Outcome | None) -> None:
        """Take the outcome of the attempt in a place, and the place back.

        The outcome is settled at once, or with others under load. None: it would be refused, the
        claim is no longer this child's.
        """
        if outcome is not None:
            self._add(outcome)
        else:
            self._appetite.whet()
        pool.started_at[place] = 0.0
        self._wake_if_resting()

    def _add(self, outcome: Outcome) -> None:
        if not self._outcomes:
            self._first_outcome_at = time.monotonic()
        self._outcomes.append(outcome)

    def _wake_if_resting(self) -> None:
        if self._mode != _AWAKE and (self._mode == _IDLE or self._is_low()):
            self._wake()

    def report(self, token: bytes, progress: bytes) -> None:
        """Take progress; the newest of each attempt is saved a few times a second."""
        self._progress[token] = Save(token, progress=progress)
        if self._mode == _IDLE:
            self._wake()

    def keep(self, token: bytes, checkpoint: bytes) -> bool:
        """Save a checkpoint and return, when it is durable, whether the claim still held."""
        waiting = _Checkpoint(Save(token, checkpoint=checkpoint))
        self._checkpoints.append(waiting)
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
                    self._add(HandedBack(token, reason))
                    pool.waiting.pop(token, None)
        self._wake()

    def forget(self, tokens: tuple[bytes, ...]) -> None:
        """Drop claims that somebody else gave back."""
        for token in tokens:
            self._remaining += sum(1 for pool in self._pools if pool.waiting.pop(token, None))
            self._held.pop(token, None)
            self._progress.pop(token, None)
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
            self._is_over = True
            with self._flushed:
                self._flushed.notify_all()
            self._bell.close()

    def _is_finished(self) -> bool:
        if not self.is_draining and self._remaining > 0:
            return False
        if self._outcomes or self._checkpoints:
            return False
        return not any(pool.active or pool.waiting for pool in self._pools)

    def _exchange(self) -> None:
        demand = self._demand()
        if demand is None:
            if not self._outcomes_due():
                return
            # Places got free: what did not fit before may fit now, and only a demand arms the bell.
            self._appetite.whet()
            demand = self._demand()
        outcomes = [self._outcomes[i] for i in range(len(self._outcomes))]
        failpoint("worker.before-exchange")
        sent_at = boottime()
        if outcomes:
            settled = self._insist(lambda: self._engine.settle(self._session_id, outcomes, demand))
        elif demand is not None:
            settled = Settled((), self._claim(demand))
        failpoint("worker.after-exchange")
        self._take_in(settled, outcomes, demand, sent_at)
        failpoint("worker.handed-over")

    def _claim(self, demand: Demand) -> Intake:
        return self._insist(lambda: self._engine.claim(self._session_id, demand))

    def _take_in(
        self, settled: Settled, outcomes: list[Outcome], demand: Demand | None, sent_at: float
    ) -> None:
        self._note_verdicts(settled, outcomes)
        claims = settled.intake.claims
        for claim in claims:
            self._held[claim.token] = sent_at + self._beat_s
        self._board.hold(self._held)
        self._done += len(outcomes)
        self._board.finished(self._done)
        self._remaining -= len(claims)
        if demand is not None:
            self._appetite.answered(
                is_full=_is_full(demand, len(claims)),
                due_in_s=settled.intake.next_due_in_s,
                now=time.monotonic(),
            )
        self._hand_over(claims)
        if outcomes:
            with self._flushed:
                self._flush_wanted = bool(self._outcomes) and self._flush_wanted
                self._flushed.notify_all()

    def _note_verdicts(self, settled: Settled, outcomes: list[Outcome]) -> None:
        for outcome, verdict in zip(outcomes, settled.verdicts, strict=True):
            self._outcomes.popleft()
            self._held.pop(outcome.token, None)
            self._progress.pop(outcome.token, None)
            if verdict is Verdict.STALE:
                self.stale += 1
                log.warning("an outcome came too late and was refused: %s", type(outcome).__name__)

    def _hand_over(self, claims: tuple[Claim, ...]) -> None:
        for pool in self._pools:
            fitting = [claim for claim in claims if claim.kind in pool.kinds]
            for claim in fitting:
                pool.waiting[claim.token] = claim
            if fitting:
                pool.low = max(pool.width, len(pool.waiting) // 2)
                pool.handover.put([claim.token for claim in fitting])

    # --- what to ask for ----------------------------------------------------------------------
    def _demand(self) -> Demand | None:
        if self.is_draining or not self._wants_more() or self._is_overdue():
            return None
        # Before it is asked for: a place that gets free meanwhile has then not been offered.
        self._appetite.offer(self._free_places())
        pace = self.paces.short()
        asks = [ask for pool in self._pools if (ask := self._ask(pool, pace)) is not None]
        if not asks or self._remaining <= 0:
            return None
        if self._bell is not None and any(ask.slots for ask in asks) and not self._has_waiting():
            # Armed before looking: a job that comes after the look rings.
            self._bell.arm()
            self._appetite.listens()
        return Demand(os.urandom(8), self._turns.next(), tuple(asks))

    def _wants_more(self) -> bool:
        return self._appetite.wants(self._free_places(), is_idle=not self._has_waiting())

    def _free_places(self) -> tuple[int, ...]:
        return tuple(max(0, p.width - p.active - len(p.waiting)) for p in self._pools)

    def _has_waiting(self) -> bool:
        return any(pool.waiting for pool in self._pools)

    def _is_overdue(self) -> bool:
        """Whether no beat was acknowledged for so long that nothing may be started."""
        return boottime() > self._board.deadline_at

    def _ask(self, pool: Pool, pace: dict[str, float]) -> Ask | None:
        now = boottime()
        waiting = len(pool.waiting)
        slots = max(0, pool.width - pool.active - waiting)
        slots = min(slots, self._remaining)
        buffer_s = 0.0
        room = min(BUFFER_JOBS - waiting, self._remaining)
        if Kind.ASYNC not in pool.kinds and room > 0:
            lively = sum(1 for at in pool.started_at if not at or now - at < BUFFER_S)
            ahead_s = sum(pace.get(claim.task, BUFFER_S) for claim in list(pool.waiting.values()))
            buffer_s = BUFFER_S * lively - ahead_s
        if slots:
            return Ask(pool.kinds, slots, pace, max(0.0, buffer_s), room)
        if pace and buffer_s > BUFFER_S / 2 and room > BUFFER_JOBS / 2:
            return Ask(pool.kinds, 0, pace, buffer_s, room)
        return None

    def _outcomes_due(self) -> bool:
        if not self._outcomes:
            return False
        if self._flush_wanted or self.is_draining or self._is_low():
            return True
        return time.monotonic() - self._first_outcome_at >= GROUP_S

    def _is_low(self) -> bool:
        """Whether so little work is at hand that outcomes should not wait for company."""
        # Asked after every job: a plain loop costs a quarter of what all() over a generator does.
        for pool in self._pools:  # noqa: SIM110
            if len(pool.waiting) > pool.low:
                return False
        return True

    # --- keeping ------------------------------------------------------------------------------
    def _save_all(self) -> None:
        checkpoints = [self._checkpoints[i] for i in range(len(self._checkpoints))]
        progress: list[Save] = []
        if self._progress and time.monotonic() - self._progress_at >= PROGRESS_S:
            progress = [self._progress.pop(token) for token in list(self._progress)]
            self._progress_at = time.monotonic()
        saves = [waiting.save for waiting in checkpoints] + progress
        if not saves:
            return
        failpoint("worker.before-save")
        held = self._insist(lambda: self._engine.save(self._session_id, saves))
        failpoint("worker.after-save")
        for waiting, is_held in zip(checkpoints, held, strict=False):
            self._checkpoints.popleft()
            waiting.held = is_held
            waiting.done.set()
        lost = tuple(save.token for save, is_held in zip(saves, held, strict=True) if not is_held)
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
                self._held[token] = sent_at + self._beat_s
                pool.handover.put([token])
            else:
                pool.waiting.pop(token, None)
                self._held.pop(token, None)

    # --- waiting ------------------------------------------------------------------------------
    def _insist(self, call: Callable[[], T]) -> T:
        """Repeat a call until the engine answers it."""
        tries = 0
        while True:
            try:
                return call()
            except EngineUnavailable as error:
                if tries % 20 == 0:
                    log.warning("the engine does not answer, trying again: %s", error)
                time.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
                tries += 1

    def _rest(self) -> None:
        """Wait until there is something to say to the engine, or something to hear from it."""
        self._appetite.look_at(time.monotonic())
        if not self._may_rest():
            return
        is_pacing = any(pool.waiting for pool in self._pools)
        self._mode = _PACING if is_pacing else _IDLE
        # Once more: what came before the mode was set did not wake anybody.
        if self._may_rest():
            self._sleep(self._wait_s())
        self._mode = _AWAKE

    def _may_rest(self) -> bool:
        if self._doubted or self._checkpoints or self._is_finished():
            return False
        return self._wait_s() > 0

    def _wait_s(self) -> float:
        now = time.monotonic()
        waits = [POLL_S]
        if self._outcomes:
            if self._outcomes_due():
                return 0.0
            waits.append(self._first_outcome_at + GROUP_S - now)
        if self._progress:
            waits.append(self._progress_at + PROGRESS_S - now)
        if self._wants_more() and self._demand_possible():
            return 0.0
        if self._is_overdue():
            waits.append(OVERDUE_S)
        if not self._appetite.is_whetted and not self.is_draining:
            waits.append(self._appetite.due_at - now)
            if self._bell is None or self._bell.fileno() < 0:
                waits.append(DEAF_POLL_S)
        return min(waits)

    def _demand_possible(self) -> bool:
        if self.is_draining or self._remaining <= 0 or self._is_overdue():
            return False
        pace = self.paces.short()
        return any(self._ask(pool, pace) is not None for pool in self._pools)

    def _sleep(self, wait_s: float) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        bell_fd = self._bell.fileno() if self._bell is not None else -1
        if bell_fd >= 0:
            poller.register(bell_fd, select.POLLIN)
        ready = {fd for fd, _ in poller.poll(max(1.0, wait_s * 1000))}
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if bell_fd in ready and self._bell is not None:
            self._bell.disarm()
            self._appetite.hears()
        elif not ready and not self._outcomes and not self._progress:
            # Nothing rang for a whole poll, or a job is due.
            self._appetite.whet()


def _is_full(demand: Demand, claims: int) -> bool:
    """Return whether a claim took so much that there may be more: the engine left nothing that fits.

    Asking again in vain would keep the interpreter from the thread that is to start what came.
    """
    slots = sum(ask.slots for ask in demand.asks)
    if any(ask.pace for ask in demand.asks):
        return claims > slots
    return claims >= slots
