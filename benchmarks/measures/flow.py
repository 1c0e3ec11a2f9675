"""What flow control costs: a drain of jobs under a limit in lanes, and of plain ones beside blocked ones."""

from __future__ import annotations

from benchmarks.bench import Bench, Figure
from benchmarks.measures.drain import FILL_S, PROCESSES


def flow(bench: Bench) -> list[Figure]:
    """Measure both as shares of the plain drains before and after them."""
    before = _drained(bench, "bulk")
    in_lanes = _drained(bench, "in_lanes")
    between = _drained(bench, "bulk")
    beside_blocked = _drained(bench, "bulk", blocked=bench.sizes.blocked)
    after = _drained(bench, "bulk")
    return [
        Figure("lanes_run", in_lanes, (before + between) / 2),
        Figure("blocked_run", beside_blocked, (between + after) / 2),
    ]


def _drained(bench: Bench, work: str, *, blocked: int = 0) -> float:
    bench.clear()
    if blocked:
        bench.moved("blocked", blocked, limit_s=FILL_S)
    bench.moved(work, bench.sizes.drain)
    return bench.drained(bench.sizes.drain, processes=PROCESSES).per_s
