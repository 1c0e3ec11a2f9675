"""How many jobs one producer can enqueue in a second, one by one and in bulk."""

from __future__ import annotations

from benchmarks.bench import Bench, Figure
from benchmarks.raw.sqlite import loops


def enqueue(bench: Bench) -> list[Figure]:
    """Measure `delay`, then `delay_many`."""
    return [
        _beside_raw(bench, "single", "delay", count=bench.sizes.singles),
        _beside_raw(bench, "bulk", "bulk", count=bench.sizes.bulk),
    ]


def _beside_raw(bench: Bench, loop: str, line: str, *, count: int) -> Figure:
    raw = loops.move(loop, loops.new_file(bench.folder), count=count)
    bench.clear()
    return Figure(line, bench.moved(loop, count).per_s, raw.per_s)
