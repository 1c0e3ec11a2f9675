"""How soon an idle worker starts a job, and its producer has the result."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.bench import Bench, Figure
from benchmarks.producer import Latency
from benchmarks.raw import loops
from benchmarks.worker import Worker

PROCESSES = 2
SHARES = (50, 95, 99)
#: Raw and Cicely take turns so often.
SLICES = 5


def latency(bench: Bench) -> list[Figure]:
    """Measure it for single jobs with pauses in between."""
    share = bench.sizes.latencies // SLICES
    place = loops.filled(bench.raw_place)
    bench.clear()
    raw: list[float] = []
    seen: list[Latency] = []
    with Worker(bench.url, processes=PROCESSES):
        bench.produce("warm", 200)
        for _ in range(SLICES):
            raw += loops.latencies_s(place, count=share)
            seen += msgspec.convert(bench.produce("latency", share), list[Latency])
    starts = [one.start_s for one in seen]
    ends = [one.result_s for one in seen]
    figures = [
        Figure(f"start_p{share}", percentile(starts, share) * 1000, percentile(raw, share) * 1000)
        for share in SHARES
    ]
    return figures + [Figure(f"result_p{share}", percentile(ends, share) * 1000) for share in SHARES]


def percentile(values: Sequence[float], share: int) -> float:
    """Return the value that `share` per cent of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
