"""How many jobs one producer can enqueue in a second, one by one and in bulk."""

from __future__ import annotations

from benchmarks.bench import Bench, Figure
from benchmarks.raw import loops
from benchmarks.runs import Moved, summed

#: Raw and Cicely take turns so often: a disk that others use changes its mind within seconds.
SLICES = 5


def enqueue(bench: Bench) -> list[Figure]:
    """Measure `delay`, then `delay_many`."""
    return [
        _beside_raw(bench, "single", "delay", count=bench.sizes.singles),
        _beside_raw(bench, "bulk", "bulk", count=bench.sizes.bulk),
    ]


def _beside_raw(bench: Bench, loop: str, line: str, *, count: int) -> Figure:
    place = loops.filled(bench.raw_place)
    bench.clear()
    share = count // SLICES
    limit_s = bench.sizes.limit_s / SLICES
    raw: list[Moved] = []
    ours: list[Moved] = []
    for _ in range(SLICES):
        raw.append(loops.move(loop, place, count=share, limit_s=limit_s))
        ours.append(bench.moved(loop, share, limit_s=limit_s))
    return Figure(line, summed(ours), summed(raw))
