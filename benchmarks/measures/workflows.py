"""What edges cost: the drain of a chord and of chains beside that of plain jobs, and a chain's step."""

from __future__ import annotations

import msgspec

from benchmarks.bench import Bench, Figure
from benchmarks.clock import boottime
from benchmarks.measures.latency import percentile
from benchmarks.worker import Worker

PROCESSES = 2


def workflows(bench: Bench) -> list[Figure]:
    """Measure rates as shares of the plain rate of the same minute."""
    count = bench.sizes.workflow
    plain = _drain(bench, "bulk", count)
    chord = _drain(bench, "chord_of", count, beside=1)
    chains = _drain(bench, "chains_of_ten", count)
    return [
        Figure("chord_run", chord, plain),
        Figure("chains_run", chains, plain),
        Figure("chain_step", percentile(_steps_s(bench), 50) * 1000),
    ]


def large_chord(bench: Bench) -> list[Figure]:
    """Measure a chord of ten times the size, from before its enqueue to its end."""
    count = bench.sizes.workflow * 10
    bench.clear()
    began_at = boottime()
    bench.moved("chord_of", count, limit_s=120.0)
    moved = bench.drained(count + 1, processes=PROCESSES, limit_s=120.0)
    return [Figure("large_chord", moved.ended_at - began_at)]


def _drain(bench: Bench, work: str, count: int, *, beside: int = 0) -> float:
    bench.clear()
    bench.moved(work, count)
    return bench.drained(count + beside, processes=PROCESSES).per_s


def _steps_s(bench: Bench) -> list[float]:
    bench.clear()
    with Worker(bench.url, processes=PROCESSES):
        bench.produce("warm", 200)
        return msgspec.convert(bench.produce("steps", bench.sizes.steps), list[float])
