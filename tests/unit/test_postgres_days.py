"""Ends lie in a part of the day on which they expire: it is dropped, and nothing in it is deleted."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cicely.core.edge import Edge
from cicely.core.job import DAY_S
from cicely.core.outcome import Failed, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Verdict
from cicely.engines.postgres import days
from cicely.engines.postgres.engine import PostgresEngine
from cicely.testing.clock import START_AT, VirtualClock
from cicely.testing.conformance.bench import counts, demand, job, look, session, take_one
from cicely.testing.postgres_server import PostgresServer

TODAY = int(START_AT // DAY_S)
BATCH = 100

#: A job that succeeded, as the first version kept it.
ENDED_BEFORE = """
WITH queue AS (
    INSERT INTO queue (name) VALUES ('main')
), class AS (
    INSERT INTO class (task, kind) VALUES ('work', 'sync')
), counted AS (
    INSERT INTO counter VALUES (1, 0, 0, 0, 1, 0, 0, 0)
), job AS (
    INSERT INTO job (n, id, class, queue, lane, priority, rank, created_at, ageing_s, keep_s, keep_failed_s,
                     remember_s, max_receives, options, body)
    VALUES (nextval('job_n'), 'a', 1, 1, '', 5, 7, %(now)s, 0, 60, 60, 0, 0, '', 'body') RETURNING n
)
INSERT INTO done (n, state, ended_at, delete_at, fence, attempt, reason, outcome, result)
SELECT n, 3, %(now)s, %(until)s, 1, 1, '', 'succeeded', 'result' FROM job
"""


@pytest.fixture
def engine(server: PostgresServer, clock: VirtualClock) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(f"{server.url}?schema=s{os.urandom(6).hex()}", now=clock.now)
    engine.open()
    engine.sweep(BATCH)
    join(engine)
    yield engine
    engine.close()


@pytest.fixture
def other(server: PostgresServer, engine: PostgresEngine) -> Iterator[psycopg.Connection[Any]]:
    """A connection of somebody else, which sees the tables."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"SET search_path TO {engine._address.schema}")
        yield connection


def join(engine: PostgresEngine) -> None:
    engine.join(session(id="s", lease_s=400 * DAY_S))


def run(engine: PostgresEngine, *ids: str, keep_s: float = DAY_S, **wanted: Any) -> None:
    engine.enqueue([job(job_id, keep_s=keep_s, **wanted) for job_id in ids])
    claims = engine.claim("s", demand(len(ids))).claims
    engine.settle("s", [Succeeded(claim.token, b"result") for claim in claims])


def sweep_all(engine: PostgresEngine) -> int:
    """Sweep until nothing is left to do: a day is shut behind one sweep, and dropped behind a later one."""
    deleted = 0
    quiet = 0
    while quiet < 4:
        swept = engine.sweep(BATCH)
        deleted += swept.deleted
        quiet = 0 if swept.deleted else quiet + 1
    return deleted


def parts(connection: psycopg.Connection[Any]) -> list[int]:
    """Return the days that have a part, by what is attached to the table."""
    found = connection.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'done'::regclass AND c.relname <> 'done_0'"
    )
    return sorted(int(name.removeprefix("done_")) for (name,) in found)


def ends_in(connection: psycopg.Connection[Any], day: int) -> int:
    [(ends,)] = connection.execute(f"SELECT count(*) FROM done_{day}").fetchall()
    return int(ends)


def dead_rows(connection: psycopg.Connection[Any], table: str) -> int:
    """Return how many rows of a table were deleted or replaced; a backend counts when it ends, at last."""
    others = (
        "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    until = time.monotonic() + 10
    while connection.execute(others).fetchall():
        assert time.monotonic() < until
    [(dead,)] = connection.execute(
        "SELECT n_tup_del + n_tup_upd FROM pg_stat_all_tables WHERE relid = %s::regclass AND n_tup_ins > 0",
        (table,),
    ).fetchall()
    return int(dead)


def test_ends_lie_in_the_part_of_the_day_on_which_they_expire(
    engine: PostgresEngine, other: psycopg.Connection[Any]
) -> None:
    run(engine, "short", keep_s=60)
    run(engine, "day", keep_s=DAY_S)
    run(engine, "long", keep_s=90 * DAY_S)
    assert parts(other) == [TODAY, TODAY + 1, TODAY + 2]
    assert (ends_in(other, TODAY), ends_in(other, TODAY + 1), ends_in(other, 0)) == (1, 1, 1)
    assert {look(engine, job_id).result for job_id in ("short", "day", "long")} == {b"result"}


def test_a_days_part_is_dropped_and_none_of_its_ends_deleted(
    engine: PostgresEngine, clock: VirtualClock, other: psycopg.Connection[Any]
) -> None:
    ids = [f"j{n}" for n in range(350)]
    run(engine, *ids)
    run(engine, "longer", keep_s=1.9 * DAY_S)
    clock.advance(1.2 * DAY_S)
    assert sweep_all(engine) == len(ids)
    # The jobs are gone to the minute, what is left of their ends goes with the day.
    assert engine.get(ids) == [None] * len(ids)
    assert counts(engine)[State.SUCCEEDED] == 1
    assert ends_in(other, TODAY + 1) == len(ids) + 1
    engine.close()
    assert dead_rows(other, f"done_{TODAY + 1}") == 0
    clock.advance(DAY_S)
    assert sweep_all(engine) == 1
    assert TODAY + 1 not in parts(other)
    assert not counts(engine).get(State.SUCCEEDED)


def test_a_job_that_is_kept_for_longer_stays_when_a_day_is_dropped(
    engine: PostgresEngine, clock: VirtualClock, other: psycopg.Connection[Any]
) -> None:
    run(engine, "day")
    run(engine, "long", keep_s=40 * DAY_S)
    clock.advance(3.2 * DAY_S)
    sweep_all(engine)
    assert parts(other) == [TODAY + 3, TODAY + 4, TODAY + 5]
    assert look(engine, "long").state is State.SUCCEEDED
    assert look(engine, "long").result == b"result"
    assert engine.get(["day"]) == [None]


def test_an_id_of_a_dropped_day_is_remembered(engine: PostgresEngine, clock: VirtualClock) -> None:
    run(engine, "known", remember_s=30 * DAY_S)
    run(engine, "unknown")
    clock.advance(3 * DAY_S)
    sweep_all(engine)
    told = engine.enqueue([job("known"), job("unknown")])
    assert [one.fresh for one in told] == [False, True]
    assert look(engine, "known").swept


def test_an_outcome_of_a_deleted_job_is_stale_although_its_end_is_still_there(
    engine: PostgresEngine, clock: VirtualClock
) -> None:
    engine.join(session(id="brief", lease_s=1))
    engine.enqueue([job("a", keep_s=60)])
    claim = take_one(engine, by="brief")
    engine.settle("brief", [Succeeded(claim.token)])
    assert engine.settle("brief", [Succeeded(claim.token)]).verdicts == (Verdict.ALREADY,)
    clock.advance(3_600)
    sweep_all(engine)
    assert engine.settle("brief", [Succeeded(claim.token)]).verdicts == (Verdict.STALE,)


def test_a_revived_job_leaves_its_day(
    engine: PostgresEngine, clock: VirtualClock, other: psycopg.Connection[Any]
) -> None:
    engine.enqueue([job("a", keep_failed_s=DAY_S)])
    engine.settle("s", [Failed(take_one(engine).token, cause="error")])
    assert ends_in(other, TODAY + 1) == 1
    assert engine.steer("revive", ["a"]) == ["a"]
    assert ends_in(other, TODAY + 1) == 0
    clock.advance(3 * DAY_S)
    sweep_all(engine)
    assert look(engine, "a").state is State.READY


def test_a_discarded_jobs_end_goes_with_its_day(
    engine: PostgresEngine, other: psycopg.Connection[Any]
) -> None:
    run(engine, "a")
    run(engine, "b")
    assert engine.steer("discard", ["a"]) == ["a"]
    assert engine.get(["a"]) == [None]
    assert ends_in(other, TODAY + 1) == 2
    assert counts(engine)[State.SUCCEEDED] == 1


def test_a_job_before_one_that_lives_is_kept_out_of_a_day_that_is_dropped(
    engine: PostgresEngine, clock: VirtualClock, other: psycopg.Connection[Any]
) -> None:
    run(engine, "parent")
    engine.enqueue([job("child", delay_s=90 * DAY_S)], [Edge("parent", "child")])
    clock.advance(3 * DAY_S)
    sweep_all(engine)
    assert TODAY + 1 not in parts(other)
    assert look(engine, "parent").state is State.SUCCEEDED


def test_the_jobs_of_workflows_lie_in_no_day(engine: PostgresEngine, other: psycopg.Connection[Any]) -> None:
    run(engine, "a", workflow="w", keep_s=60)
    assert ends_in(other, TODAY) == 0
    assert ends_in(other, 0) == 1


def test_what_was_ended_behind_the_sweep_keeps_its_day_until_it_is_swept(
    engine: PostgresEngine, clock: VirtualClock, other: psycopg.Connection[Any]
) -> None:
    run(engine, "late", keep_s=60)
    clock.advance(DAY_S + days._GRACE_S / 2)
    # As if its settle had taken so long that the sweep was past it.
    other.execute("UPDATE day SET swept_at = (day + 1) * 86400.0 WHERE day = %s", (TODAY,))
    assert engine.sweep(BATCH).deleted == 0
    clock.advance(days._GRACE_S)
    assert sweep_all(engine) == 1
    assert engine.get(["late"]) == [None]
    engine.sweep(BATCH)
    assert TODAY not in parts(other)


@pytest.mark.parametrize("table", [f"done_{TODAY}", "done"])
def test_a_part_that_somebody_reads_stalls_no_settle_and_is_dropped_later(
    server: PostgresServer,
    engine: PostgresEngine,
    clock: VirtualClock,
    other: psycopg.Connection[Any],
    table: str,
) -> None:
    run(engine, "old", keep_s=60)
    clock.advance(DAY_S + 2 * days._GRACE_S)
    with psycopg.connect(server.url) as reader:
        reader.execute(f"SELECT count(*) FROM {engine._address.schema}.{table}")
        began = time.monotonic()
        sweep_all(engine)
        run(engine, "next")
        assert time.monotonic() - began < 2
        assert TODAY in parts(other)
        assert look(engine, "next").state is State.SUCCEEDED
    sweep_all(engine)
    assert TODAY not in parts(other)


def test_a_settle_that_waits_for_a_drop_ends_elsewhere(
    server: PostgresServer, engine: PostgresEngine, clock: VirtualClock, other: psycopg.Connection[Any]
) -> None:
    engine.enqueue([job("a", keep_s=60)])
    claim = take_one(engine)
    with ThreadPoolExecutor(1) as pool:
        with other.transaction():
            other.execute(f"DROP TABLE done_{TODAY}")
            other.execute("DELETE FROM day WHERE day = %s", (TODAY,))
            settling = pool.submit(engine.settle, "s", [Succeeded(claim.token)])
            wait_for_a_lock(server)
        assert settling.result(10).verdicts == (Verdict.ACCEPTED,)
    assert ends_in(other, 0) == 1


def wait_for_a_lock(server: PostgresServer) -> None:
    until = time.monotonic() + 10
    with psycopg.connect(server.url, autocommit=True) as connection:
        while not connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
            assert time.monotonic() < until


def test_ends_of_an_older_schema_stay_where_they_are_and_are_deleted_in_time(
    server: PostgresServer, clock: VirtualClock
) -> None:
    schema = f"s{os.urandom(6).hex()}"
    with psycopg.connect(server.url, autocommit=True) as older:
        older.execute(f"CREATE SCHEMA {schema}; SET search_path TO {schema}")
        older.execute(Path(__file__).with_name("postgres_schema_1.sql").read_bytes())
        older.execute("INSERT INTO meta VALUES (1)")
        older.execute(ENDED_BEFORE, {"now": START_AT, "until": START_AT + DAY_S})
        engine = PostgresEngine(f"{server.url}?schema={schema}", now=clock.now)
        engine.migrate()
        engine.sweep(BATCH)
        assert ends_in(older, 0) == 1
        assert look(engine, "a").result == b"result"
        clock.advance(2 * DAY_S)
        assert sweep_all(engine) == 1
        assert ends_in(older, 0) == 0
        engine.close()
