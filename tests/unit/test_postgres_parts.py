"""The tables that every job passes through stay small, also while somebody holds an old snapshot."""

import os
import select
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.postgres import turning
from cicely.engines.postgres.engine import PostgresEngine
from cicely.testing.conformance.bench import counts, demand, job, look, session, take
from cicely.testing.postgres_server import PostgresServer

PAGE = 250


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(f"{server.url}?schema=s{os.urandom(6).hex()}")
    engine.open()
    engine.join(session(id="s"))
    yield engine
    engine.close()


@pytest.fixture
def other(server: PostgresServer, engine: PostgresEngine) -> Iterator[psycopg.Connection[Any]]:
    """A connection of somebody else, which sees the tables."""
    with psycopg.connect(server.url) as connection:
        connection.execute(f"SET search_path TO {engine._address.schema}")
        connection.commit()
        yield connection


def drain(engine: PostgresEngine, jobs: int, *, prefix: str) -> None:
    for start in range(0, jobs, PAGE):
        engine.enqueue([job(f"{prefix}{start + n}") for n in range(PAGE)])
        claims = engine.claim("s", demand(PAGE)).claims
        engine.settle("s", [Succeeded(claim.token) for claim in claims])


def largest_bytes(connection: psycopg.Connection[Any]) -> int:
    tables = [f"'{table}_{part}'::regclass" for table in ("ready", "run", "delta") for part in range(4)]
    row = connection.execute(
        f"SELECT max(pg_relation_size(t)) FROM unnest(ARRAY[{', '.join(tables)}]) AS i (t)"
    )
    found = row.fetchone()
    assert found is not None
    return int(found[0])


def hold_snapshot(connection: psycopg.Connection[Any]) -> None:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    connection.execute("SELECT pg_current_xact_id()")


def test_dead_rows_are_bounded_under_a_snapshot_that_is_held(
    server: PostgresServer, engine: PostgresEngine, other: psycopg.Connection[Any]
) -> None:
    with psycopg.connect(server.url) as holder:
        hold_snapshot(holder)
        sizes = []
        for round_ in range(3):
            drain(engine, 8_000, prefix=f"r{round_}-")
            sizes.append(largest_bytes(other))
            other.rollback()
    # Without parts these 24,000 jobs leave 2.7 MB in run alone.
    assert max(sizes) < 6 * turning._FULL_BYTES
    assert counts(engine)[State.SUCCEEDED] == 24_000


def test_jobs_that_wait_or_run_for_long_are_taken_along(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch, other: psycopg.Connection[Any]
) -> None:
    monkeypatch.setattr(turning, "_FULL_BYTES", 32 << 10)
    engine.join(session(id="long", tasks=frozenset({"other"})))
    held = {}
    waiting = []
    for round_ in range(6):
        engine.enqueue([job(f"long{round_}", task="other"), job(f"wait{round_}", task="nobody")])
        [claim] = take(engine, by="long")
        held[claim.job_id] = claim
        waiting.append(f"wait{round_}")
        drain(engine, 3_000, prefix=f"r{round_}-")
        engine.sweep(100)
    # Without parts these 18,000 jobs leave 2 MB in run alone.
    assert largest_bytes(other) < 1 << 19
    other.rollback()
    parts = other.execute("SELECT count(DISTINCT part) FROM run").fetchone()
    assert parts is not None
    for job_id, claim in held.items():
        assert look(engine, job_id).state is State.RUNNING
        engine.settle("long", [Succeeded(claim.token)])
        assert look(engine, job_id).state is State.SUCCEEDED
    for job_id in waiting:
        assert look(engine, job_id).state is State.READY
    engine.join(session(id="n", tasks=frozenset({"nobody"})))
    assert [claim.job_id for claim in engine.claim("n", demand(9)).claims] == waiting


def test_a_part_that_an_open_transaction_has_touched_is_left_alone(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch, other: psycopg.Connection[Any]
) -> None:
    monkeypatch.setattr(turning, "_FULL_BYTES", 32 << 10)
    engine.enqueue([job("first")])
    other.execute("SELECT pg_current_xact_id()")
    engine.within(other).enqueue([job("inside")])
    drain(engine, 6_000, prefix="r-")
    other.commit()
    found = {claim.job_id for claim in engine.claim("s", demand(5)).claims}
    assert "inside" in found or look(engine, "inside").state is not State.READY
    assert look(engine, "inside") is not None


def test_order_holds_across_parts(engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning, "_FULL_BYTES", 0)
    names = []
    for n in range(8):
        names.append(f"j{n}")
        engine.enqueue([job(f"j{n}")])
        engine.sweep(10)
    engine.enqueue([job("urgent", priority=9)])
    assert [claim.job_id for claim in engine.claim("s", demand(20)).claims] == ["urgent", *names]


def test_a_snapshot_of_ours_keeps_the_parts_as_they_are(
    engine: PostgresEngine, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reader saw running must not look ready because its row was moved meanwhile."""
    monkeypatch.setattr(turning, "_FULL_BYTES", 1)
    engine.enqueue([job("a")])
    take(engine)
    transactions = engine._opened().transactions

    def look_slowly(txn: Any) -> int:
        another = PostgresEngine(f"{server.url}?schema={engine._address.schema}")
        for _ in range(3):
            another.sweep(10)
        another.close()
        return int(txn.row("SELECT count(*) FROM run")[0])

    assert transactions.read(look_slowly) == 1


def test_bells_that_came_and_went_leave_nothing_and_those_who_wait_are_still_rung(
    engine: PostgresEngine, server: PostgresServer, monkeypatch: pytest.MonkeyPatch, other: Any
) -> None:
    monkeypatch.setattr(turning, "_FULL_BYTES", 16 << 10)
    bell = engine.doorbell("s")
    bell.arm()
    with psycopg.connect(server.url) as holder:
        hold_snapshot(holder)
        for _ in range(300):
            passing = engine.doorbell("s")
            passing.arm()
            passing.close()
        engine.sweep(10)
    size = other.execute("SELECT pg_relation_size('bell')").fetchone()
    assert size is not None
    assert size[0] < 16 << 10
    other.rollback()
    engine.enqueue([job("a")])
    assert select.select([bell.fileno()], [], [], 5)[0]
    bell.close()
