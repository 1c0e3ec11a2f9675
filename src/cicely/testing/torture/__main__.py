"""`make torture`: each engine in turn, its server started from a wheel, killed, and judged by the ledger.

Prints one report per engine. Exits with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Final, TypeVar

from cicely.testing.postgres_server import PostgresServer
from cicely.testing.redis_server import RedisServer
from cicely.testing.torture.ordeal import Wanted, run
from cicely.testing.torture.report import Report

S = TypeVar("S", RedisServer, PostgresServer)


def _sqlite(wanted: Wanted, seed: int | None) -> Report:
    with tempfile.TemporaryDirectory(prefix="cicely-torture-") as folder:
        return run(f"sqlite:///{folder}/torture.db", wanted, seed=seed, announce=_say)


def _redis(wanted: Wanted, seed: int | None) -> Report:
    with _running(RedisServer()) as server:
        return run(server.url, wanted, seed=seed, server=server, announce=_say)


def _postgresql(wanted: Wanted, seed: int | None) -> Report:
    with _running(PostgresServer()) as server:
        return run(server.url, wanted, seed=seed, server=server, announce=_say)


ENGINES: Final = {"sqlite": _sqlite, "redis": _redis, "postgresql": _postgresql}


@contextlib.contextmanager
def _running(server: S) -> Iterator[S]:
    try:
        server.start()
        yield server
    finally:
        server.destroy()


def _say(line: str) -> None:
    sys.stdout.write(f"  {line}\n")
    sys.stdout.flush()


def main(words: list[str]) -> int:
    """Torture the engines that are named, all unless told otherwise; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cicely.testing.torture", description=__doc__)
    parser.add_argument("engines", nargs="*", default=list(ENGINES), help=", ".join(ENGINES))
    parser.add_argument("--minutes", type=float, default=2.0, help="of faults, per engine, at least")
    parser.add_argument("--child-kills", type=int, default=200, help="at least")
    parser.add_argument("--supervisor-kills", type=int, default=20, help="at least")
    parser.add_argument("--server-kills", type=int, default=20)
    parser.add_argument("--idle-jobs", type=int, default=10_000, help="run before the first fault")
    parser.add_argument("--due-jobs", type=int, default=200, help="run after those, each at its time")
    parser.add_argument("--seed", type=int, help="repeat the faults of an earlier run")
    chosen = parser.parse_args(words)
    wanted = Wanted(
        seconds=60 * chosen.minutes,
        child_kills=chosen.child_kills,
        supervisor_kills=chosen.supervisor_kills,
        outages=chosen.server_kills,
        idle_jobs=chosen.idle_jobs,
        due_jobs=chosen.due_jobs,
    )
    unknown = [name for name in chosen.engines if name not in ENGINES]
    if unknown:
        parser.error(f"no such engine: {', '.join(unknown)}; there are {', '.join(ENGINES)}")
    are_clean = [_report_on(name, ENGINES[name](wanted, chosen.seed)) for name in chosen.engines]
    return 0 if all(are_clean) else 1


def _report_on(name: str, report: Report) -> bool:
    sys.stdout.write("\n".join([name, *report.lines(), "", ""]))
    sys.stdout.flush()
    return report.is_clean


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
