"""The systems that are compared: what they need, where they keep jobs, how their workers start."""

from __future__ import annotations

from typing import Final

import msgspec


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker of some processes starts.

    `{processes}` in the words stands for their number, `{url}` for the server's. With `per_process`, as many
    of these commands run side by side, each of them one process; `{index}` tells them apart.
    """

    words: tuple[str, ...]
    per_process: bool = False
    environment: dict[str, str] = {}


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One system. `packages` go into an environment of their own; Cicely's is the one that measures."""

    name: str
    module: str
    packages: tuple[str, ...]
    engines: tuple[str, ...]
    settings: str
    worker: Launch
    #: One process with room for a thousand waiting jobs; None where a process runs one at a time.
    sleeper: Launch | None = None


OURS: Final = "cicely"
#: Not among the constraints: what one of them needs another refuses.
REDIS: Final = "redis[hiredis]==8.1.0"
REDIS_7: Final = "redis[hiredis]==7.4.1"

PEERS: Final = (
    Peer(
        name=OURS,
        module="cicely",
        packages=(),
        engines=("sqlite", "redis", "postgres"),
        settings="defaults; results kept",
        worker=Launch(words=("cicely", "worker", "benchmarks.peers.cicely:app", "-c", "{processes}")),
        sleeper=Launch(
            words=("cicely", "worker", "benchmarks.peers.cicely:app", "-c", "1", "--coroutines", "1000")
        ),
    ),
    Peer(
        name="celery",
        module="celery",
        packages=("celery[redis]", REDIS, "gevent"),
        engines=("redis",),
        settings="prefork, acks late, rejected when the worker is lost, prefetch 64, results kept",
        worker=Launch(
            words=(
                "celery", "-A", "benchmarks.peers.celery", "worker", "-c", "{processes}", "-l", "ERROR",
                "--without-gossip", "--without-mingle",
            )
        ),
        sleeper=Launch(
            words=(
                "celery", "-A", "benchmarks.peers.celery", "worker", "-P", "gevent", "-c", "1000",
                "-l", "ERROR", "--without-gossip", "--without-mingle",
            )
        ),
    ),
    Peer(
        name="rq",
        module="rq",
        packages=("rq", REDIS),
        engines=("redis",),
        settings="a process per job (its default), results kept",
        worker=Launch(words=("rq", "worker-pool", "-n", "{processes}", "-u", "{url}", "-q")),
    ),
    Peer(
        name="rq-simple",
        module="rq",
        packages=("rq", REDIS),
        engines=("redis",),
        settings="SimpleWorker: no process per job, results kept",
        worker=Launch(
            words=(
                "rq", "worker-pool", "-n", "{processes}", "-u", "{url}", "-q",
                "-w", "rq.worker.SimpleWorker",
            )
        ),
    ),
    Peer(
        name="dramatiq",
        module="dramatiq",
        packages=("dramatiq[redis]", REDIS, "gevent"),
        engines=("redis",),
        settings="8 threads per process, no results but where results are timed",
        worker=Launch(words=("dramatiq", "benchmarks.peers.dramatiq", "-p", "{processes}", "-t", "8")),
        sleeper=Launch(words=("dramatiq-gevent", "benchmarks.peers.dramatiq", "-p", "1", "-t", "1000")),
    ),
    Peer(
        name="huey",
        module="huey",
        packages=("huey", REDIS, "gevent", "psycopg[binary]"),
        engines=("sqlite", "redis", "postgres"),
        settings="processes, SQLite with fsync",
        worker=Launch(
            words=("huey_consumer", "benchmarks.peers.huey.queue", "-w", "{processes}", "-k", "process", "-q")
        ),
        sleeper=Launch(
            words=(
                "python", "-m", "gevent.monkey", "--module", "huey.bin.huey_consumer",
                "benchmarks.peers.huey.queue", "-w", "1000", "-k", "greenlet", "-q",
            )
        ),
    ),
    Peer(
        name="taskiq",
        module="taskiq",
        packages=("taskiq", "taskiq-redis", REDIS, "uvloop"),
        engines=("redis",),
        settings="streams, acks when the result is saved, results kept, no scheduler process",
        worker=Launch(
            words=(
                "taskiq", "worker", "benchmarks.peers.taskiq:broker", "-w", "{processes}",
                "--log-level", "ERROR",
            )
        ),
        sleeper=Launch(
            words=(
                "taskiq", "worker", "benchmarks.peers.taskiq:broker", "-w", "1", "--log-level", "ERROR",
                "--max-async-tasks", "1000",
            )
        ),
    ),
    Peer(
        name="saq",
        module="saq",
        packages=("saq[redis,hiredis,postgres]", REDIS_7, "psycopg[binary]", "uvloop"),
        engines=("redis", "postgres"),
        settings="defaults: 10 at once per process, results kept for 10 minutes",
        worker=Launch(words=("saq", "benchmarks.peers.saq.settings", "--workers", "{processes}", "-q")),
        sleeper=Launch(
            words=("saq", "benchmarks.peers.saq.settings", "-q"), environment={"BENCH_CONCURRENCY": "1000"}
        ),
    ),
    Peer(
        name="streaq",
        module="streaq",
        packages=("streaq", "uvloop"),
        engines=("redis",),
        settings="defaults: 16 at once per process, results kept for 5 minutes",
        worker=Launch(words=("streaq", "run", "benchmarks.peers.streaq:worker", "-w", "{processes}")),
        sleeper=Launch(
            words=("streaq", "run", "benchmarks.peers.streaq:worker"),
            environment={"BENCH_CONCURRENCY": "1000"},
        ),
    ),
    Peer(
        name="procrastinate",
        module="procrastinate",
        packages=("procrastinate", "psycopg[binary]"),
        engines=("postgres",),
        settings="10 at once per process, jobs kept, no results",
        worker=Launch(
            words=("procrastinate", "--app", "benchmarks.peers.procrastinate.app", "worker", "-c", "10"),
            per_process=True,
        ),
        sleeper=Launch(
            words=("procrastinate", "--app", "benchmarks.peers.procrastinate.app", "worker", "-c", "1000")
        ),
    ),
    Peer(
        name="pgqueuer",
        module="pgqueuer",
        packages=("pgqueuer[asyncpg]", "uvloop"),
        engines=("postgres",),
        settings="defaults: 10 per claim; no results, done jobs are deleted",
        worker=Launch(
            words=("python", "-m", "benchmarks.peers.pgqueuer"), per_process=True
        ),
        sleeper=Launch(
            words=("python", "-m", "benchmarks.peers.pgqueuer"), environment={"BENCH_CONCURRENCY": "1000"}
        ),
    ),
    Peer(
        name="dbos",
        module="dbos",
        packages=("dbos", "psycopg[binary]"),
        engines=("sqlite", "postgres"),
        settings="defaults: a queue without limits, asked each second; results kept",
        worker=Launch(
            words=("python", "-m", "benchmarks.peers.dbos"),
            per_process=True,
            environment={"BENCH_INDEX": "{index}"},
        ),
        sleeper=Launch(words=("python", "-m", "benchmarks.peers.dbos")),
    ),
)  # fmt: skip


def peer_of(name: str) -> Peer:
    """Return the system of that name; `ValueError` if there is none."""
    for peer in PEERS:
        if peer.name == name:
            return peer
    raise ValueError(f"{name!r} is none of {', '.join(peer.name for peer in PEERS)}")
