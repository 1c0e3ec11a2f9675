"""What is compared, line by line, and how much of it."""

from __future__ import annotations

from typing import Final

import msgspec

from benchmarks.targets import Better


class Line(msgspec.Struct, frozen=True):
    """One figure of each system, a column of the tables; most of them say who is ahead."""

    key: str
    text: str
    unit: str
    better: Better = Better.MORE
    is_judged: bool = True


class Group(msgspec.Struct, frozen=True):
    """The lines that one measurement finds, in one table; the first of them orders it and is drawn."""

    key: str
    title: str
    lines: tuple[Line, ...]


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. Whatever a system cannot do within `limit_s` is counted as far as it came."""

    drain: int = 20_000
    burn: int = 10_000
    singles: int = 2_000
    bulk: int = 20_000
    latencies: int = 300
    idle_s: float = 15.0
    backlog_small: int = 10_000
    backlog_large: int = 1_000_000
    backlog_run: int = 5_000
    scheduled: int = 20_000
    chord: int = 1_000
    embed: int = 10_000
    naps: int = 1_000
    limit_s: float = 20.0
    embed_s: float = 200.0
    fill_s: float = 240.0
    #: How long a killed process's job is waited for.
    patience_s: float = 60.0


QUICK: Final = Sizes(
    drain=4_000,
    burn=1_500,
    singles=500,
    bulk=4_000,
    latencies=60,
    idle_s=5.0,
    backlog_small=2_000,
    backlog_large=20_000,
    backlog_run=1_000,
    scheduled=2_000,
    chord=200,
    embed=300,
    naps=200,
    limit_s=8.0,
    embed_s=20.0,
    fill_s=20.0,
    patience_s=15.0,
)


def _less(key: str, text: str, unit: str) -> Line:
    return Line(key, text, unit, Better.LESS)


GROUPS: Final = (
    Group(
        "drain",
        "Drain of no-op jobs",
        (
            Line("run2", "2 processes", "jobs/s"),
            Line("run4", "4 processes", "jobs/s"),
            _less("calls", "commands or transactions", "per job"),
            _less("server_cpu", "server CPU", "µs per job"),
        ),
    ),
    Group(
        "enqueue",
        "Enqueue, one producer",
        (Line("single", "one by one", "jobs/s"), Line("bulk", "in bulk", "jobs/s")),
    ),
    Group(
        "burn",
        "Jobs of 1 ms CPU, 4 workers",
        (
            Line("burn", "jobs", "jobs/s"),
            _less("burn_cpu", "CPU of the workers", "s per 10,000"),
            _less("burn_server_cpu", "CPU of the server", "s per 10,000"),
            _less("burn_memory", "memory (PSS)", "MB"),
        ),
    ),
    Group(
        "latency",
        "Idle worker, one job at a time",
        (
            _less("start_p50", "to start, p50", "ms"),
            _less("start_p95", "to start, p95", "ms"),
            _less("start_p99", "to start, p99", "ms"),
            _less("result_p50", "to result, p50", "ms"),
            _less("result_p95", "to result, p95", "ms"),
            _less("result_p99", "to result, p99", "ms"),
        ),
    ),
    Group(
        "idle",
        "Idle worker of 4 processes",
        (
            _less("idle_cpu", "CPU", "% of a core"),
            _less("idle_server_cpu", "CPU of the server", "% of a core"),
            _less("idle_calls", "requests to the server", "per s"),
            _less("idle_memory", "memory (PSS)", "MB"),
        ),
    ),
    Group(
        "backlog",
        "Run out of a backlog, 2 processes",
        (
            Line("backlog_large", "out of a large one", "jobs/s"),
            Line("backlog_small", "out of a small one", "jobs/s"),
            Line("backlog_share", "the first as a share of the second", "share"),
            Line("backlog_jobs", "the large one", "jobs", is_judged=False),
        ),
    ),
    Group(
        "countdown",
        "Jobs due in an hour",
        (
            Line("later", "enqueue", "jobs/s"),
            Line("later_run", "no-op jobs run beside them", "jobs/s"),
            _less("later_memory", "memory (PSS) of 2 processes", "MB"),
            _less("later_cpu", "CPU while they wait", "% of a core"),
        ),
    ),
    Group("chord", "Chord", (_less("chord", "enqueue to the callback's start", "s"),)),
    Group(
        "embed",
        "Jobs that embed 100 documents, 4 workers",
        (
            Line("embed", "jobs", "jobs/s"),
            _less("embed_mean", "mean time of one", "ms"),
            _less("embed_p95", "p95", "ms"),
            _less("embed_cpu", "CPU of the workers", "% of the machine"),
            _less("embed_cpu_s", "CPU of the workers", "s per 10,000"),
            _less("embed_memory", "memory (PSS)", "MB"),
        ),
    ),
    Group("naps", "Jobs that sleep 100 ms at the same time, one process", (Line("naps", "jobs", "jobs/s"),)),
    Group(
        "kill",
        "SIGKILL while a job runs, until it runs again",
        (
            _less("rerun_process", "its process killed", "s"),
            _less("rerun_worker", "its whole worker killed, a new one started", "s"),
        ),
    ),
)


def group_of(key: str) -> Group:
    """Return the group of that key."""
    [found] = [group for group in GROUPS if group.key == key]
    return found
