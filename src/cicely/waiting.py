"""Waiting until jobs end: for a bell, or for the next look, whichever comes first."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Final

from cicely.core.job import Job as Record
from cicely.engines.contract import Bell
from cicely.errors import JobNotFound, UsageError, WouldDeadlock

if TYPE_CHECKING:
    from cicely.connection import Connection

#: A bell is a hint: look at least so often.
LOOK_S: Final = 1.0
#: How often to look where an engine has no bells.
_POLL_S: Final = 0.05


def look(connection: Connection, job_id: str) -> Record:
    """Return the job as it is now. Raises JobNotFound."""
    [record] = connection.call(lambda engine: engine.get([job_id]))
    if record is None:
        raise JobNotFound(
            f"no job has the id {job_id}: it was swept after its retention, or never enqueued "
            "(a batch enqueues when it is left)"
        )
    return record


def await_end(connection: Connection, job_id: str, *, timeout_s: float | None) -> Record:
    """Return the job once it has ended. Raises TimeoutError; the job goes on."""
    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    record = look(connection, job_id)
    if record.state.is_final:
        return record
    bell = connection.call(lambda engine: engine.result_bell([job_id]))
    try:
        while True:
            bell.arm()
            record = look(connection, job_id)
            if record.state.is_final:
                return record
            rung(bell, _wait_s(record, give_up_at, timeout_s))
            bell.disarm()
    finally:
        bell.close()


async def await_end_async(connection: Connection, job_id: str, *, timeout_s: float | None) -> Record:
    """As `await_end`, without blocking the event loop."""
    import asyncio

    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    record = await asyncio.to_thread(look, connection, job_id)
    if record.state.is_final:
        return record
    bell = await asyncio.to_thread(connection.call, lambda engine: engine.result_bell([job_id]))
    try:
        while True:
            bell.arm()
            record = await asyncio.to_thread(look, connection, job_id)
            if record.state.is_final:
                return record
            await _rung_async(bell, _wait_s(record, give_up_at, timeout_s))
            bell.disarm()
    finally:
        bell.close()


def _wait_s(record: Record, give_up_at: float | None, timeout_s: float | None) -> float:
    if give_up_at is None:
        return LOOK_S
    left_s = give_up_at - time.monotonic()
    if left_s <= 0:
        raise TimeoutError(
            f"job {record.id} ({record.task}) is {record.state} after {timeout_s:g} s; it goes on"
        )
    return min(LOOK_S, left_s)


def rung(bell: Bell, wait_s: float) -> None:
    """Wait for a ring, at most `wait_s` seconds."""
    if bell.fileno() < 0:
        time.sleep(min(wait_s, _POLL_S))
        return
    poller = select.poll()
    poller.register(bell.fileno(), select.POLLIN)
    poller.poll(wait_s * 1000)


async def _rung_async(bell: Bell, wait_s: float) -> None:
    import asyncio

    if bell.fileno() < 0:
        await asyncio.sleep(min(wait_s, _POLL_S))
        return
    loop = asyncio.get_running_loop()
    ring = asyncio.Event()
    loop.add_reader(bell.fileno(), ring.set)
    try:
        await asyncio.wait_for(ring.wait(), wait_s)
    except TimeoutError:
        return
    finally:
        loop.remove_reader(bell.fileno())


def refuse_inside_a_job(job_id: str) -> None:
    """Raise WouldDeadlock where a job's own code asks."""
    from cicely.worker.context import current

    context = current()
    if context is None:
        return
    if context.job_id == job_id:
        raise UsageError(f"job {job_id} waits for its own result")
    raise WouldDeadlock(
        f"job {context.job_id} waits for job {job_id} and may hold the slot that it needs; let a task "
        "enqueue and return, or pass allow_blocking=True where the two have workers of their own"
    )
