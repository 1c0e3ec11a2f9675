"""What one attempt may use: its job's limits, its task's, and more memory after it ran out."""

from __future__ import annotations

import msgspec

from cicely.core.job import Claim
from cicely.core.outcome import CAUSE_MEMORY
from cicely.core.task import Limits, Task


def limits_of(claim: Claim, task: Task) -> Limits:
    """Return the limits of this attempt: the job's own where it has some, else the task's."""
    limits = task.options.limits
    if not (claim.options or claim.reason):
        return limits
    if claim.options:
        limits = msgspec.msgpack.decode(claim.options, type=Limits).over(limits)
    if claim.reason == CAUSE_MEMORY and limits.memory_again_bytes:
        return msgspec.structs.replace(limits, memory_bytes=limits.memory_again_bytes)
    return limits


def may_have_more_memory(claim: Claim, limits: Limits) -> bool:
    """Return whether a job that runs out of memory has another attempt with more."""
    return bool(limits.memory_again_bytes) and claim.reason != CAUSE_MEMORY
