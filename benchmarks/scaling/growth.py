"""Measures what enqueue, claim and settle cost against the backlog and against the number of processes."""

from __future__ import annotations

from typing import Final

import msgspec

from benchmarks import counting
from benchmarks.bench import Bench, say
from benchmarks.compare.servers import Server, behind
from benchmarks.processes import cpu_s
from benchmarks.runs import Moved, Run
from benchmarks.worker import Worker

FILL_S: Final = 900.0
_SINGLES: Final = 300
_BULK: Final = 5_000
_LIMIT_S: Final = 30.0


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """What running jobs cost: per second, per call and per job.

    `exchange_us` is the time that a worker waits for one call which settles and claims; `engine_us` the
    time on the CPU that the engine spends per job: of its server, or of the clerks where it is a file.
    """

    per_s: float
    batch: float
    exchange_us: float
    engine_us: float
    children_us: float


class AtBacklog(msgspec.Struct, frozen=True, kw_only=True):
    """Costs with so many jobs waiting."""

    backlog: int
    single_us: float
    bulk_us: float
    run: Exchange


class AtWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """Costs with so many processes at work."""

    processes: int
    run: Exchange


def against_backlog(bench: Bench, backlogs: list[int], *, jobs: int) -> list[AtBacklog]:
    """Measure with backlogs that grow; each is topped up from the one before."""
    bench.clear()
    waiting = 0
    rows = []
    for backlog in backlogs:
        say(f"  a backlog of {backlog:,}")
        if backlog > waiting:
            bench.moved("bulk", backlog - waiting, limit_s=FILL_S)
        single = bench.moved("single", _SINGLES, limit_s=_LIMIT_S)
        bulk = bench.moved("bulk", _BULK, limit_s=_LIMIT_S)
        # So much more that the backlog is there until the last of them has run.
        bench.moved("bulk", jobs, limit_s=FILL_S)
        run = exchange(bench, processes=2, jobs=jobs)
        rows.append(
            AtBacklog(backlog=backlog, single_us=1e6 / single.per_s, bulk_us=1e6 / bulk.per_s, run=run)
        )
        waiting = _waiting(bench)
    return rows


def against_workers(bench: Bench, counts: list[int], *, jobs: int) -> list[AtWorkers]:
    """Measure with more and more processes, on the cores that there are."""
    rows = []
    for processes in counts:
        say(f"  {processes} processes")
        bench.clear()
        bench.moved("bulk", jobs, limit_s=FILL_S)
        rows.append(AtWorkers(processes=processes, run=exchange(bench, processes=processes, jobs=jobs)))
    return rows


def burning(bench: Bench, *, jobs: int) -> Exchange:
    """Measure jobs of a millisecond: they travel in smaller batches."""
    bench.clear()
    bench.moved("burns", jobs, limit_s=FILL_S)
    return exchange(bench, processes=2, jobs=jobs)


def exchange(bench: Bench, *, processes: int, jobs: int) -> Exchange:
    """Run `jobs` of what waits, and say what it cost."""
    calls_file = bench.folder / "calls"
    calls_file.unlink(missing_ok=True)
    watch = Run("benchmarks.producer", "watch", jobs, _LIMIT_S, environment=bench.environment)
    environment = {counting.FILE_VARIABLE: str(calls_file)}
    server = behind(bench.ground)
    bench.produce("pause", 0)
    with watch.looking_on(), Worker(bench.url, processes=processes, environment=environment) as worker:
        worker.wait_until_up(processes)
        before = _spent(worker, server)
        bench.produce("resume", 0)
        moved = msgspec.convert(watch.result(_LIMIT_S), Moved)
        after = _spent(worker, server)
        server_s, clerks_s, children_s = (now - then for now, then in zip(after, before, strict=True))
        calls, seconds = counting.calls(calls_file), counting.seconds(calls_file)
    ran = max(1, moved.jobs)
    settles = max(1, calls["settle"])
    return Exchange(
        per_s=moved.per_s,
        batch=ran / settles,
        exchange_us=seconds.get("settle", 0.0) / settles * 1e6,
        engine_us=(server_s or clerks_s) / ran * 1e6,
        children_us=children_s / ran * 1e6,
    )


def _spent(worker: Worker, server: Server | None) -> tuple[float, float, float]:
    """Return the CPU seconds of the server, of the clerks, and of the children so far."""
    children_s = sum(cpu_s([child]) for child in worker.children)
    return server.cpu_s() if server else 0.0, cpu_s([worker.pid]), children_s


def _waiting(bench: Bench) -> int:
    return int(bench.produce("waiting", 0))
