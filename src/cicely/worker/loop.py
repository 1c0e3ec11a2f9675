"""Where coroutine attempts run inside a child: an event loop."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from cicely.core.job import Claim
from cicely.core.outcome import HandedBack, Outcome
from cicely.core.task import Task
from cicely.errors import Cancelled, SoftTimeout
from cicely.worker.allowance import limits_of
from cicely.worker.attempt import (
    cut_short_by_a_stop,
    failed,
    refused,
    run_attempt,
    run_attempt_async,
    unknown,
)
from cicely.worker.context import Context
from cicely.worker.handover import STOP
from cicely.worker.limits import start_on_board
from cicely.worker.pool import Pool
from cicely.worker.processes import boottime
from cicely.worker.workshop import Workshop, context_of

if TYPE_CHECKING:
    import asyncio


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
            if self.is_wrapping_up:
                outcome = cut_short_by_a_stop(outcome)
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
