"""A cluster that does not exist: workers that share one engine, at the costs that were measured.

Each worker runs a batch, then settles it and claims the next in one call; calls wait for each other where
the engine has no unit free. What is between them is virtual time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

import msgspec

#: Calls per worker that are simulated; the first tenth is not counted.
_CALLS: Final = 60
#: How much work a worker takes at once, at most: what it may lose time by when others are idle.
_APPETITE_S: Final = 0.02


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds: of the engine per call and per job, of a worker per job, of the way there and back."""

    call_us: float
    job_us: float
    worker_us: float
    way_us: float
    batch: float

    def batch_of(self, work_s: float) -> int:
        """Return how many jobs of that length travel in one call."""
        return max(1, min(round(self.batch), int(_APPETITE_S / (work_s + self.worker_us / 1e6))))

    def ceiling(self, work_s: float, *, units: int) -> float:
        """Return the jobs per second that the engine can do at most."""
        return units * 1e6 / (self.job_us + self.call_us / self.batch_of(work_s))


def jobs_per_s(costs: Costs, workers: int, *, work_s: float = 0.0, units: int = 1) -> float:
    """Return what so many workers, with a core each, run of jobs that take `work_s`."""
    batch = costs.batch_of(work_s)
    busy_us = batch * (work_s * 1e6 + costs.worker_us)
    call_us = costs.call_us + batch * costs.job_us
    free_at = [0.0] * units
    # They do not begin at the same moment.
    arrivals = [(busy_us * worker / workers, worker) for worker in range(workers)]
    heapq.heapify(arrivals)
    ends: list[float] = []
    for _ in range(_CALLS * workers):
        at, worker = heapq.heappop(arrivals)
        end = max(at, heapq.heappop(free_at)) + call_us
        heapq.heappush(free_at, end)
        ends.append(end)
        heapq.heappush(arrivals, (end + costs.way_us + busy_us, worker))
    counted = ends[len(ends) // 10 :]
    return (len(counted) - 1) * batch / (counted[-1] - counted[0]) * 1e6


def saturation(costs: Costs, *, work_s: float = 0.0, units: int = 1, share: float = 0.9) -> int:
    """Return the least number of workers, a power of two, that reach `share` of the engine's ceiling."""
    ceiling = costs.ceiling(work_s, units=units)
    workers = 1
    while jobs_per_s(costs, workers, work_s=work_s, units=units) < share * ceiling and workers < 2**14:
        workers *= 2
    return workers


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the cost of a call and of a job that explain what a job cost in batches of several sizes.

    Each point is a batch's size and the cost of one of its jobs: cost = job + call / size, by least squares;
    neither is negative.
    """
    xs = [1 / size for size, _ in points]
    ys = [cost for _, cost in points]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    if spread == 0:
        return 0.0, mean_y
    call = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    call = max(0.0, call)
    job = mean_y - call * mean_x
    if job <= 0:
        return mean_y / mean_x, 0.0
    return call, job
