"""Where plain and isolated attempts run inside a child: its main thread, or several threads."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from types import FrameType

from cicely.core.job import Claim, Kind
from cicely.core.outcome import Outcome
from cicely.core.task import Limits, Task
from cicely.errors import Cancelled, SoftTimeout
from cicely.worker.allowance import limits_of
from cicely.worker.attempt import cut_short_by_a_stop, failed, refused, run_attempt, unknown
from cicely.worker.context import INTERRUPT, Context
from cicely.worker.handover import STOP
from cicely.worker.limits import start_on_board
from cicely.worker.pool import Pool
from cicely.worker.processes import boottime
from cicely.worker.workshop import Workshop, context_of

_NO_SOFT_TIMEOUT = (b"", 0.0)
#: Looking a member up on its class costs as much as calling a function, and this is asked of every job.
_ISOLATED = Kind.ISOLATED


class Slot:
    """One thread that runs plain and isolated attempts, one after the other.

    `interrupt` raises an exception in the running attempt's own code, and nowhere else.
    """

    def __init__(self, shop: Workshop, pool: Pool, index: int) -> None:
        self._shop = shop
        self._pool = pool
        self._index = index
        self._claim: Claim | None = None
        #: The attempt in this process: its token and its context.
        self._running: tuple[bytes, Context] | None = None
        self._thread = threading.main_thread()
        self._is_main = True
        self._soft = _NO_SOFT_TIMEOUT
        self._pending: tuple[Context, BaseException] | None = None
        #: The last claim that was asked to end, was lost, and was told of its soft timeout.
        self._ending = self._lost = self._told = b""
        self.is_wrapping_up = False

    def serve(self) -> None:
        """Run what the hand-over gives until it says stop."""
        self._thread = threading.current_thread()
        self._is_main = self._thread is threading.main_thread()
        handover, begin = self._pool.handover, self._shop.exchange.begin
        wait = self._shop.exchange.ear(self._pool)
        while True:
            token = handover.take()
            if token is None:
                wait()
            elif token == STOP:
                return
            else:
                claim = begin(self._pool, token, self._index)
                if claim is not None:
                    self._run(claim)

    # --- one attempt --------------------------------------------------------------------------
    def _run(self, claim: Claim) -> None:
        shop = self._shop
        started_at = self._pool.started_at[self._index]
        if shop.exchange.must_flush_before(claim.task):
            shop.exchange.flush()
            # That wait is not the job's: a slow answer would make its task a long one, for which the
            # next run waits as well, and so on for ever.
            started_at = self._pool.started_at[self._index] = boottime()
        outcome = self._outcome_of(claim)
        if self.is_wrapping_up:
            outcome = cut_short_by_a_stop(outcome)
        shop.exchange.paces.ran(claim.task, boottime() - started_at)
        is_lost = self._lost == claim.token
        shop.exchange.finish(self._pool, self._index, None if is_lost else outcome)

    def _outcome_of(self, claim: Claim) -> Outcome:
        try:
            task = self._shop.app.resolve(claim.task)
            return unknown(claim) if task is None else self._attempt(claim, task)
        except BaseException as error:  # noqa: BLE001  (the job's fault: it must not be run for ever)
            return refused(claim, error)

    def _attempt(self, claim: Claim, task: Task) -> Outcome:
        limits = limits_of(claim, task)
        self._claim = claim
        try:
            is_isolated = limits.isolate or limits.memory_bytes or claim.kind is _ISOLATED
            if is_isolated or self._shares_devices(claim):
                return self._shop.isolation.run(
                    claim, task, self._index, is_ending=lambda: self._ending == claim.token
                )
            return self._attempt_here(claim, task, limits)
        except (Cancelled, SoftTimeout) as late:
            return failed(claim, task, late)
        finally:
            self._claim = None

    def _shares_devices(self, claim: Claim) -> bool:
        """Return whether its devices, shown to a whole process, would be seen by other threads' jobs."""
        return bool(claim.units) and not self._is_main

    def _attempt_here(self, claim: Claim, task: Task, limits: Limits) -> Outcome:
        shop = self._shop
        try:
            start_on_board(shop.board, claim, task, limits, slot=self._index)
            context = context_of(shop, claim, self._index, self._lose)
            self._running = (claim.token, context)
            # In this order: whoever asked it to end before it was to be found here left word there.
            if self._ending == claim.token:
                context.cancelled = True
            if limits.soft_timeout_s:
                self._soft = (claim.token, boottime() + limits.soft_timeout_s)
                os.eventfd_write(shop.soft_bell, 1)
            return run_attempt(claim, task, shop.values, context)
        finally:
            self._soft = _NO_SOFT_TIMEOUT
            try:
                self._close_to_interrupts()
            finally:
                shop.board.clear(self._index)

    def _close_to_interrupts(self) -> None:
        if self._running is None:
            return
        _, context = self._running
        if self._is_main:
            # Who interrupts this thread does so by its signal handler, which runs in it.
            context.is_inside = False
        else:
            with context.landing:
                context.is_inside = False
                _raise_in(self._thread, None)
        self._running = None

    def _lose(self) -> None:
        self._lost = self.token

    # --- interrupting it, from another thread -------------------------------------------------
    @property
    def token(self) -> bytes:
        """The claim whose attempt runs here, or nothing."""
        claim = self._claim
        return claim.token if claim else b""

    @property
    def soft_at(self) -> float:
        """When the running attempt is to be told that its soft timeout has passed; 0 for never."""
        token, at = self._soft
        return 0.0 if token == self._told else at

    def time_out(self) -> None:
        """Raise SoftTimeout in the attempt whose soft timeout has passed."""
        token, at = self._soft
        if not at or at > boottime():
            return
        self._told = token
        self.interrupt(token, SoftTimeout("it ran for its soft_timeout"))

    def lose(self, token: bytes) -> None:
        """Drop the attempt of this claim: its outcome would be refused."""
        self._lost = token
        self.interrupt(token, Cancelled("this attempt's claim was lost"))

    def interrupt(self, token: bytes, error: BaseException) -> None:
        """Raise `error` in the attempt of this claim, if it runs here and its own code does."""
        if self.token != token:
            return
        if isinstance(error, Cancelled):
            self._ending = token
        running = self._running
        if running is None:
            self._shop.isolation.interrupt(token)
            return
        of, context = running
        if of != token:
            return
        context.cancelled = context.cancelled or isinstance(error, Cancelled)
        if self._is_main:
            self._pending = (context, error)
            signal.pthread_kill(self._thread.ident or 0, INTERRUPT)
            return
        with context.landing:
            if context.is_inside:
                _raise_in(self._thread, type(error))

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Handle the interrupt signal, in the main thread."""
        if self._pending is None:
            return
        context, error = self._pending
        # It may arrive after its attempt has ended and another has begun.
        if self._running is None or context is not self._running[1] or not context.is_inside:
            return
        self._pending = None
        raise error


def _raise_in(thread: threading.Thread, error: type[BaseException] | None) -> None:
    # The interpreter raises it between two of the thread's bytecodes; a blocking call ends first.
    # None takes back one that has not been raised yet.
    what = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), what)
