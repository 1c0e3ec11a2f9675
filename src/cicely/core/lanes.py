"""Fair shares of a queue: start-time fair queueing over its lanes.

Each lane has a clock that moves by what its jobs take, divided by its weight; the lane whose clock is
behind is served first. The queue's clock follows the lane that was served last, and no lane
starts behind it: who was away has nothing saved up, and owes nothing that nobody waited for. A
job is charged when it is claimed, with what the lane's jobs took lately, and corrected when
it ended. What a job takes is counted in seconds begun, so that very short jobs count the same.

Jobs that are claimed ahead because they are very short come in turns of several: a claim of two
hundred of them would otherwise touch two hundred lanes, and that would cost more than the jobs.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

_SMOOTHING: Final = 8.0
#: A lane's turn is one job, or as many as take so long together, up to a number.
_TURN_S: Final = 0.002
_TURN_JOBS: Final = 8


class LaneWeight(msgspec.Struct, frozen=True, tag="lane"):
    """How much a lane gets beside the others of its queue, where 1 is usual."""

    queue: str
    lane: str
    weight: float = 1.0


class Lane(msgspec.Struct, frozen=True):
    """A lane's clock, and the seconds that its jobs took lately."""

    clock: float = 0.0
    mean_s: float = 1.0


def turn(pace_s: float | None) -> int:
    """Return how many jobs of one stream and priority are a lane's turn, by how long an ask says they take.

    Where it says nothing, None, each job is a turn.
    """
    if pace_s is None:
        return 1
    return min(max(1, int(_TURN_S / max(pace_s, 1e-9))), _TURN_JOBS)


def start(lane: Lane, queue_clock: float) -> float:
    """Return the instant at which the lane's next turn starts; the queue's clock stands there then."""
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
