"""Fair shares of a queue: start-time fair queueing over its lanes.

Each lane has a clock that moves by what its jobs take, divided by its weight; the lane whose clock is
behind is served first. The queue's clock follows the lane that was served last, and no lane
starts behind it: who was away has nothing saved up, and owes nothing that nobody waited for. A
job is charged when it is claimed, with what the lane's jobs took lately, and corrected when
it ended. What a job takes is counted in seconds begun, so that very short jobs count the same.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

_SMOOTHING: Final = 8.0


class LaneWeight(msgspec.Struct, frozen=True, tag="lane"):
    """How much a lane gets beside the others of its queue, where 1 is usual."""

    queue: str
    lane: str
    weight: float = 1.0


class Lane(msgspec.Struct, frozen=True):
    """A lane's clock, and the seconds that its jobs took lately."""

    clock: float = 0.0
    mean_s: float = 1.0


def start(lane: Lane, queue_clock: float) -> float:
    """Return the instant, on the queue's clock, at which the lane's next job starts."""
    return max(lane.clock, queue_clock)


def charged(lane: Lane, queue_clock: float, *, weight: float) -> Lane:
    """Return the lane after one of its jobs was claimed."""
    return Lane(start(lane, queue_clock) + charge(lane) / weight, lane.mean_s)


def charge(lane: Lane) -> float:
    """Return what the lane's next job is charged with: whole seconds, at least one."""
    return max(1.0, math.floor(lane.mean_s + 0.5))


def corrected(lane: Lane, *, was_charged: float, ran_s: float, weight: float) -> Lane:
    """Return the lane after a job that ran so long gave back its slot."""
    took = math.floor(ran_s) + 1.0
    mean_s = lane.mean_s + (took - lane.mean_s) / _SMOOTHING
    return Lane(lane.clock + (took - was_charged) / weight, mean_s)
