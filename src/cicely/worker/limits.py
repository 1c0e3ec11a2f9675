"""The limits of an attempt: what they are, whether one is passed, and the outcome then.

The child puts them on the board, the supervisor watches them there.
"""

from __future__ import annotations

from typing import Final

from cicely.core.job import Claim
from cicely.core.outcome import (
    CAUSE_MEMORY,
    CAUSE_STALLED,
    CAUSE_TIMEOUT,
    Failed,
    HandedBack,
    Outcome,
    Stopped,
)
from cicely.core.retry import OutOfMemory, StallTimeout, Timeout, retry_in_s
from cicely.core.task import Limits, Task
from cicely.worker.allowance import may_have_more_memory
from cicely.worker.attempt import record_of
from cicely.worker.board import Board, Running, job_name
from cicely.worker.processes import boottime

#: Why the supervisor killed an attempt, as it stands on the board.
TIMED_OUT: Final = 1
STALLED: Final = 2
TOO_LARGE: Final = 3
CANCELLED: Final = 4
STOPPING: Final = 5


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
        memory_retry_s=0.0 if may_have_more_memory(claim, limits) else wait_s(OutOfMemory()),
        job_name=job_name(claim.job_id),
    )


def start_on_board(board: Board, claim: Claim, task: Task, limits: Limits, *, slot: int) -> None:
    """Put an attempt in this process on the board, to be watched where it has limits."""
    if limits.timeout_s or limits.stall_timeout_s:
        board.start_limited(on_board(claim, task, limits, slot))
    else:
        board.start(slot, claim.token, boottime(), job_name=job_name(claim.job_id))


def passed_limit(running: Running, *, now: float) -> int:
    """Return which limit of time an attempt has passed, or 0."""
    if running.deadline_at and now > running.deadline_at:
        return TIMED_OUT
    if running.stall_s and now > running.touched_at + running.stall_s:
        return STALLED
    return 0


def limit_outcome(running: Running, verdict: int) -> Outcome:
    """Return the outcome of an attempt that the supervisor ended, by its verdict."""
    ran_s = boottime() - running.started_at
    if verdict == CANCELLED:
        return Stopped(running.token, "killed: it did not end within its grace")
    if verdict == STOPPING:
        return HandedBack(running.token, "its worker stopped", has_started=True)
    if verdict == TOO_LARGE:
        error: Exception = OutOfMemory(f"its processes held more than {running.memory_bytes:,} bytes")
        return Failed(running.token, CAUSE_MEMORY, record_of(error, None).encoded(), running.memory_retry_s)
    if verdict == STALLED:
        error = StallTimeout(f"it gave no sign of life for {running.stall_s:g} s")
        return Failed(running.token, CAUSE_STALLED, record_of(error, None).encoded(), running.stall_retry_s)
    error = Timeout(f"it ran for {ran_s:.1f} s, over its timeout")
    return Failed(running.token, CAUSE_TIMEOUT, record_of(error, None).encoded(), running.timeout_retry_s)
