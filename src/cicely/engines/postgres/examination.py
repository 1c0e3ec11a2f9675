"""What `cicely doctor` looks at on the server: its settings, its clock, and what keeps dead rows alive."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final

import psycopg

from cicely.engines.checks import Check, CheckVerdict
from cicely.engines.postgres.address import Address
from cicely.engines.postgres.schema import SCHEMA_VERSION
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.wire import Link, Values

_SQL: Final = statements("examine")
_ROUNDS: Final = 5
_SLOW_S: Final = 0.020
_LONG_S: Final = 60.0
_NEARLY_ALL: Final = 0.9
_MANY_DEAD: Final = 100_000
_OK, _WARN, _BAD = CheckVerdict.OK, CheckVerdict.WARN, CheckVerdict.BAD


def checks(link: Link, address: Address) -> list[Check]:
    """Look once; a question that the server refuses to answer is a check of its own."""
    found: list[Check] = []
    for ask in (_settings, _round_trip, _rows, _snapshots, _prepared, _slots, _pooler):
        found += _answered(link, address, ask)
    return found


def _answered(link: Link, address: Address, ask: Callable[[Link, Address], Iterator[Check]]) -> list[Check]:
    try:
        return list(ask(link, address))
    except psycopg.errors.InsufficientPrivilege:
        return [
            Check(ask.__name__.strip("_").replace("_", " "), "unknown: the server lets this user not ask")
        ]


def _settings(link: Link, address: Address) -> Iterator[Check]:
    [(version, fsync, pages, commit, autovacuum, most, connected, is_standby)] = _rows_of(link, "settings")
    yield Check("server version", f"{version}, schema {SCHEMA_VERSION}")
    yield _flag(
        "fsync", fsync, "fsync = on in postgresql.conf: without it a loss of power may destroy the database"
    )
    yield _flag(
        "full_page_writes", pages, "full_page_writes = on: without it a loss of power may damage pages"
    )
    is_overridden = commit == "off" and address.durability != "none"
    yield _judged(
        "synchronous_commit",
        f"{commit} (durability={address.durability})",
        _BAD if is_overridden else _OK,
        "something overrides what Cicely sets for its connections (a pooler?)",
    )
    yield _flag("autovacuum", autovacuum, "autovacuum = on: without it dead rows are never removed")
    yield _judged(
        "connections",
        f"{connected} of {most}",
        _WARN if connected >= _NEARLY_ALL * most else _OK,
        "raise max_connections, or put a transaction pooler in between (pooler=transaction)",
    )
    if is_standby:
        yield Check("role", "standby, read-only", _BAD, "name the primary, or several hosts")


def _flag(name: str, value: str, remedy: str) -> Check:
    return _judged(name, value, _OK if value == "on" else _BAD, remedy)


def _judged(name: str, value: str, verdict: CheckVerdict, remedy: str) -> Check:
    """Return a check that gives its remedy only where there is something to mend."""
    return Check(name, value, verdict, "" if verdict is _OK else remedy)


def _round_trip(link: Link, address: Address) -> Iterator[Check]:
    trips = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        link.execute("SELECT 1")
        trips.append(time.perf_counter() - began)
    trip_s = statistics.median(trips)
    remedy = "each call is a few of them: run workers nearer to the server, enqueue in batches"
    yield _judged("round trip", f"{trip_s * 1000:.1f} ms", _WARN if trip_s > _SLOW_S else _OK, remedy)


def _rows(link: Link, address: Address) -> Iterator[Check]:
    [(size_bytes, living, dead)] = _rows_of(link, "sizes")
    yield Check("tables", f"{size_bytes / 1e6:,.1f} MB, {living:,} rows")
    yield _judged(
        "dead rows",
        f"{dead:,}",
        _WARN if dead > max(_MANY_DEAD, living) else _OK,
        "something keeps vacuum from removing them (see the oldest transaction), or autovacuum is too slow",
    )


def _snapshots(link: Link, address: Address) -> Iterator[Check]:
    found = _rows_of(link, "snapshots")
    if not found:
        yield Check("oldest transaction", "none seen but this one")
    for pid, name, state, age_s, behind in found:
        yield _judged(
            "oldest transaction",
            f"{age_s:,.0f} s, {behind or 0:,} transactions behind "
            f"(pid {pid}, {name or 'no name'}, {state or 'unknown'})",
            _WARN if age_s > _LONG_S else _OK,
            "dead rows stay while it is open: where nobody needs it, "
            f"SELECT pg_terminate_backend({pid}); keep reports of hours on a replica",
        )


def _prepared(link: Link, address: Address) -> Iterator[Check]:
    [(count, oldest_s)] = _rows_of(link, "prepared")
    yield _judged(
        "prepared transactions",
        f"{count}, the oldest {oldest_s:,.0f} s" if count else "none",
        _WARN if oldest_s > _LONG_S else _OK,
        "a forgotten one keeps dead rows for ever: SELECT * FROM pg_prepared_xacts, then ROLLBACK PREPARED",
    )


def _slots(link: Link, address: Address) -> Iterator[Check]:
    for name, active, behind in _rows_of(link, "slots"):
        yield _judged(
            "replication slot",
            f"{name}, {'in use' if active else 'unused'}, {behind:,} transactions behind",
            _OK if active else _WARN,
            f"it keeps dead rows for ever: SELECT pg_drop_replication_slot('{name}')",
        )


def _pooler(link: Link, address: Address) -> Iterator[Check]:
    [(backend,)] = _rows_of(link, "backend")
    # A pooler makes up the process id that it names when a connection begins.
    is_pooled = backend != link.info.backend_pid
    yield _judged(
        "pooler",
        f"{'there is one' if is_pooled else 'none seen'}, pooler={address.pooler}",
        _BAD if is_pooled and address.pooler == "none" else _OK,
        "write pooler=transaction into the URL: LISTEN and prepared statements go astray behind it",
    )


def _rows_of(link: Link, name: str) -> list[Values]:
    return link.execute(_SQL[name]).fetchall()
