"""Where attempts run inside a child: the main thread, further threads, and an event loop."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cicely.core.job import Claim, Kind
from cicely.core.outcome import Deferred, HandedBack, Outcome, Stopped
from cicely.core.retry import OutOfMemory, StallTimeout, Timeout, retry_in_s
from cicely.core.task import Limits, Task
from cicely.core.text import storable
from cicely.errors import Cancelled, SoftTimeout
from cicely.worker.attempt import Values, failed, refused, run_attempt, run_attempt_async
from cicely.worker.board import Board, Running, job_name
from cicely.worker.context import Context
from cicely.worker.exchange import Exchange, Pool
from cicely.worker.handover import STOP
from cicely.worker.processes import boottime

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("cicely.worker")

_MESSAGE_CHARS = 500
_NO_SOFT_TIMEOUT = (b"", 0.0)
INTERRUPT = signal.SIGUSR1
UNKNOWN_AGAIN_S = 30.0


class Isolation(Protocol):
    """Runs an attempt in a process of its own."""

    def run(
        self,
        claim: Claim,
        task: Task,
        slot: int,
        *,
        is_ending: Callable[[], bool],
        is_wrapping_up: Callable[[], bool],
    ) -> Outcome:
        """Run it, watched on the board's `slot`, and return when its whole tree is gone.

        `is_ending`: it was asked to end, maybe before there was anybody who could hear.
        """

    def interrupt(self, token: bytes) -> None:
        """Ask the attempt of this claim to end, if it runs."""


class App(Protocol):
    """What a child needs to know of the user's app."""

    def resolve(self, task_name: str) -> Task | None:
        """Return the task of this name, or None."""


class Workshop(msgspec.Struct, frozen=True):
    """What all slots of a child share."""

    app: App
    values: Values
    exchange: Exchange
    board: Board
    isolation: Isolation
    #: An eventfd: written to when an attempt with a soft timeout starts.
    soft_bell: int


class ChildLink:
    """The way from an attempt in this process to its board and its engine."""

    def __init__(self, shop: Workshop, slot: int, claim: Claim, drop: Callable[[], None]) -> None:
        self._shop = shop
        self._slot = slot
        self._claim = claim
        self._drop = drop

    def touch(self) -> None:
        """Note a sign of life."""
        self._shop.board.touch(self._slot, boottime())

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Have the newest progress saved soon."""
        self._shop.exchange.report(self._claim.token, encoded_progress(done, total, message))

    def checkpoint(self, state: object) -> None:
        """Save `state` durably. Raises Cancelled when the claim no longer holds."""
        where = f"the checkpoint of {self._claim.task}"
        data = self._shop.values.pack(self._claim.job_id, state, where=where)
        if not self._shop.exchange.keep(self._claim.token, data):
            self._drop()
            raise Cancelled("this attempt's claim was lost")


def encoded_progress(done: float, total: float | None, message: str) -> bytes:
    """Return the bytes that engines keep for a job's progress: plain numbers, storable text."""
    shown = {
        "done": _plain_number(done),
        "total": None if total is None else _plain_number(total),
        "message": storable(str(message)[:_MESSAGE_CHARS]),
    }
    return msgspec.msgpack.encode(shown)


def _plain_number(number: float) -> float:
    """Return what counts as a number (NumPy's, a Decimal) as one of Python's that can be stored."""
    if isinstance(number, int) and abs(number) < 1 << 63:
        return int(number)
    return float(number)


def unknown(claim: Claim) -> Outcome:
    """Return the outcome of a claim whose function is not found here; another worker may know it."""
    return Deferred(claim.token, UNKNOWN_AGAIN_S, f"{claim.task} cannot be imported here")


def limits_of(claim: Claim, task: Task) -> Limits:
    """Return the limits of this job: its own where it has some, else the task's."""
    if not claim.options:
        return task.options.limits
    return msgspec.msgpack.decode(claim.options, type=Limits).over(task.options.limits)


def on_board(claim: Claim, task: Task, limits: Limits, slot: int) -> Running:
    """Return the record by which the supervisor watches an attempt with limits."""
    now = boottime()
    errors = claim.tallies.errors

    def wait_s(limit: BaseException) -> float | None:
        return retry_in_s(limit, task.options.retry, errors=errors, chance=1.0)

    return Running(
        slot=slot,
        token=claim.token,
        started_at=now,
        deadline_at=now + limits.timeout_s if limits.timeout_s else 0.0,
        stall_s=limits.stall_timeout_s or 0.0,
        memory_bytes=limits.memory_bytes or 0,
        timeout_retry_s=wait_s(Timeout()),
        stall_retry_s=wait_s(StallTimeout()),
        memory_retry_s=wait_s(OutOfMemory()),
        job_name=job_name(claim.job_id),
    )


def start_on_board(board: Board, claim: Claim, task: Task, limits: Limits, *, slot: int) -> None:
    """Put an attempt in this process on the board, to be watched where it has limits."""
    if limits.timeout_s or limits.stall_timeout_s:
        board.start_limited(on_board(claim, task, limits, slot))
    else:
        board.start(slot, claim.token, boottime(), job_name=job_name(claim.job_id))


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
        self._soft = _NO_SOFT_TIMEOUT
        self._pending: tuple[Context, BaseException] | None = None
        #: The last claim that was asked to end, was lost, and was told of its soft timeout.
        self._ending = self._lost = self._told = b""
        self.is_wrapping_up = False

    def serve(self) -> None:
        """Run what the hand-over gives until it says stop."""
        self._thread = threading.current_thread()
        handover = self._pool.handover
        poller = select.poll()
        poller.register(handover.read_fd, select.POLLIN)
        while True:
            token = handover.take()
            if token is None:
                poller.poll()
            elif token == STOP:
                return
            else:
                claim = self._shop.exchange.begin(self._pool, token, self._index)
                if claim is not None:
                    self._run(claim)

    # --- one attempt --------------------------------------------------------------------------
    def _run(self, claim: Claim) -> None:
        shop = self._shop
        started_at = self._pool.started_at[self._index]
        if shop.exchange.must_flush_before(claim.task):
            shop.exchange.flush()
        outcome = self._in_view_of_a_stop(self._outcome_of(claim))
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
            if limits.isolate or limits.memory_bytes or claim.kind is Kind.ISOLATED:
                return self._shop.isolation.run(
                    claim,
                    task,
                    self._index,
                    is_ending=lambda: self._ending == claim.token,
                    is_wrapping_up=lambda: self.is_wrapping_up,
                )
            return self._attempt_here(claim, task, limits)
        except (Cancelled, SoftTimeout) as late:
            return failed(claim, task, late)
        finally:
            self._claim = None

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
        with context.landing:
            context.is_inside = False
            if self._thread is not threading.main_thread():
                _raise_in(self._thread, None)
        self._running = None

    def _in_view_of_a_stop(self, outcome: Outcome) -> Outcome:
        """Hand back, free, an attempt that ended itself because the worker stops."""
        if self.is_wrapping_up and isinstance(outcome, Stopped):
            return HandedBack(outcome.token, "its worker stopped", has_started=True)
        return outcome

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
        if self._thread is threading.main_thread():
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


def context_of(shop: Workshop, claim: Claim, slot: int, drop: Callable[[], None]) -> Context:
    """Return the context of an attempt in this process."""
    link = ChildLink(shop, slot, claim, drop)
    restored = None
    if claim.checkpoint is not None:
        restored = shop.values.unpack(claim.job_id, claim.checkpoint)
    return Context(claim, link, restored=restored)


class Loop:
    """An event loop in a thread of its own that runs coroutine attempts, many at once."""

    def __init__(self, shop: Workshop, pool: Pool, first_slot: int) -> None:
        self._shop = shop
        self._pool = pool
        self._first_slot = first_slot
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._contexts: dict[bytes, Context] = {}
        self._why: dict[bytes, BaseException] = {}
        self._soft: dict[bytes, float] = {}
        self._free = list(range(pool.width))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self.is_wrapping_up = False

    def serve(self) -> None:
        """Run what the hand-over gives until it says stop."""
        import asyncio

        asyncio.run(self._serve())

    async def _serve(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._loop.add_reader(self._pool.handover.read_fd, self._on_readable)
        await self._over.wait()
        self._loop.remove_reader(self._pool.handover.read_fd)

    def _on_readable(self) -> None:
        assert self._loop is not None and self._over is not None  # noqa: PT018
        while (token := self._pool.handover.take()) is not None:
            if token == STOP:
                self._over.set()
                return
            index = self._free[-1]
            claim = self._shop.exchange.begin(self._pool, token, index)
            if claim is not None:
                self._free.pop()
                self._tasks[token] = self._loop.create_task(self._run(claim, index))

    async def _run(self, claim: Claim, index: int) -> None:
        shop = self._shop
        try:
            task = shop.app.resolve(claim.task)
            if task is None:
                outcome = unknown(claim)
            else:
                outcome = await self._attempt(claim, task, self._first_slot + index)
            if self.is_wrapping_up and isinstance(outcome, Stopped):
                outcome = HandedBack(claim.token, "its worker stopped", has_started=True)
        except Exception as error:  # noqa: BLE001  (the job's fault: it must not be run for ever)
            outcome = refused(claim, error)
        except BaseException as error:  # noqa: BLE001  (the loop itself is being closed)
            reason = f"its event loop ended: {type(error).__name__}"
            outcome = HandedBack(claim.token, reason, has_started=True)
        shop.exchange.paces.ran(claim.task, boottime() - self._pool.started_at[index])
        self._tasks.pop(claim.token, None)
        self._free.append(index)
        is_lost = self._why.pop(claim.token, None) is _LOST
        shop.exchange.finish(self._pool, index, None if is_lost else outcome)

    async def _attempt(self, claim: Claim, task: Task, slot: int) -> Outcome:
        import asyncio

        shop = self._shop
        limits = limits_of(claim, task)
        context = context_of(shop, claim, slot, lambda: self._lose(claim.token))
        try:
            self._contexts[claim.token] = context
            start_on_board(shop.board, claim, task, limits, slot=slot)
            if limits.soft_timeout_s:
                self._soft[claim.token] = boottime() + limits.soft_timeout_s
                os.eventfd_write(shop.soft_bell, 1)
            if not task.is_async:
                thread = asyncio.to_thread(run_attempt, claim, task, shop.values, context)
                return await _whatever_happens(thread)
            outcome = await run_attempt_async(claim, task, shop.values, context)
            why = self._why.get(claim.token)
            if why is not None and context.was_cut_short:
                return failed(claim, task, why)
            return outcome
        finally:
            self._contexts.pop(claim.token, None)
            self._soft.pop(claim.token, None)
            shop.board.clear(slot)

    def _lose(self, token: bytes) -> None:
        self._why[token] = _LOST

    # --- called from the control thread -------------------------------------------------------
    @property
    def tokens(self) -> list[bytes]:
        """The claims whose attempts run here."""
        return list(self._tasks)

    @property
    def soft_at(self) -> float:
        """When the next soft timeout passes; 0 for never."""
        return min(self._soft.copy().values(), default=0.0)

    def time_out(self) -> None:
        """Cancel the attempts whose soft timeout has passed."""
        now = boottime()
        for token, at in self._soft.copy().items():
            if at <= now:
                self._soft.pop(token, None)
                self.interrupt(token, SoftTimeout("it ran for its soft_timeout"))

    def lose(self, token: bytes) -> None:
        """Drop an attempt: its outcome would be refused."""
        self.interrupt(token, _LOST)

    def interrupt(self, token: bytes, error: BaseException) -> None:
        """Cancel the attempt of this claim, for this reason."""
        task = self._tasks.get(token)
        context = self._contexts.get(token)
        if task is None or self._loop is None:
            return
        if context is not None and not isinstance(error, SoftTimeout):
            context.cancelled = True
        self._why[token] = error
        self._loop.call_soon_threadsafe(task.cancel)


async def _whatever_happens(attempt: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Wait for an attempt in a thread of its own, which cannot be cancelled from here."""
    import asyncio

    running = asyncio.ensure_future(attempt)
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(running)
    return running.result()


_LOST = Cancelled("this attempt's claim was lost")
