"""What a worker of four children costs while there is nothing to do."""

from __future__ import annotations

import time

from benchmarks import counting
from benchmarks.bench import Bench, Figure, say
from benchmarks.clock import boottime
from benchmarks.processes import cpu_s, memory_of
from benchmarks.raw import loops
from benchmarks.worker import Worker

CHILDREN = 4
#: A worker that was just busy comes to rest in so many seconds.
REST_S = 3.0


def idle(bench: Bench) -> list[Figure]:
    """Measure its memory, its time on the CPU and its engine calls."""
    raw = loops.memory(loops.filled(bench.raw_place, ready=100), CHILDREN)
    bench.clear()
    calls_file = bench.folder / "calls"
    calls_file.unlink(missing_ok=True)
    environment = {counting.FILE_VARIABLE: str(calls_file)}
    with Worker(bench.url, processes=CHILDREN, environment=environment) as worker:
        bench.produce("warm", 2_000)
        time.sleep(REST_S)
        memory = memory_of(worker.pid, children=worker.children)
        pids = worker.pids
        calls, cpu, began_at = counting.calls(calls_file), cpu_s(pids), boottime()
        time.sleep(bench.sizes.idle_s)
        ran_s = boottime() - began_at
        cpu_percent = (cpu_s(pids) - cpu) / ran_s * 100
        new_calls = counting.calls(calls_file) - calls
    shown = ", ".join(f"{verb} {count / ran_s:.2f}" for verb, count in new_calls.most_common())
    say(f"idle: engine calls per second: {shown or 'none'}")
    return [
        Figure("idle_cpu", cpu_percent),
        Figure("idle_calls", new_calls.total() / ran_s),
        Figure("memory", memory.whole_mb, raw.whole_mb),
        Figure("memory_children", memory.children_mb, raw.children_mb),
    ]
