"""Flow control and events beside transactions that stay open: nobody waits for them, nothing is missed."""

import os
from collections.abc import Iterator

import psycopg
import pytest

from cicely.core.event import EventFilter
from cicely.core.flow import Flow
from cicely.core.limits import Limit
from cicely.core.outcome import Succeeded
from cicely.engines.postgres.engine import PostgresEngine
from cicely.errors import BacklogFull
from cicely.testing.conformance.bench import demand, fail, ids, job, session, settle, take, take_one, using
from cicely.testing.postgres_server import PostgresServer

ANY = EventFilter()


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(f"{server.url}?schema=s{os.urandom(6).hex()}")
    engine.open()
    engine.join(session(id="s"))
    yield engine
    engine.close()


@pytest.fixture
def caller(server: PostgresServer) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(server.url) as connection:
        yield connection


def test_claims_go_on_while_a_caller_has_enqueued_gated_jobs_and_not_committed(
    engine: PostgresEngine, caller: psycopg.Connection[tuple[object, ...]]
) -> None:
    engine.configure([Limit(key="api", concurrency=1)])
    engine.enqueue([job(id="a", lane="l", flow=using("api"))])
    engine.within(caller).enqueue([job(id="b", lane="l", priority=9, flow=using("api"))])

    first = take_one(engine)
    assert (first.job_id, take(engine, 5)) == ("a", ())
    settle(engine, Succeeded(first.token))
    caller.commit()

    assert ids(take(engine, 5)) == ["b"]


def test_a_caller_who_rolls_back_leaves_no_gated_job(
    engine: PostgresEngine, caller: psycopg.Connection[tuple[object, ...]]
) -> None:
    engine.within(caller).enqueue([job(id="a", lane="new", flow=using("api")), job(id="b", flow=Flow())])
    caller.rollback()

    assert take(engine, 5) == ()
    assert engine.get(["a", "b"]) == [None, None]


def test_a_refused_backlog_leaves_the_callers_transaction_usable(
    engine: PostgresEngine, caller: psycopg.Connection[tuple[object, ...]]
) -> None:
    engine.configure([Limit(key="queue:main", backlog=1)])
    engine.enqueue([job(id="a")])

    with pytest.raises(BacklogFull):
        engine.within(caller).enqueue([job(id="b")])
    engine.within(caller).enqueue([job(id="c", queue="side")])
    caller.commit()

    assert [found is not None for found in engine.get(["a", "b", "c"])] == [True, False, True]


def test_an_event_whose_writer_commits_late_is_not_passed_over(
    engine: PostgresEngine, caller: psycopg.Connection[tuple[object, ...]]
) -> None:
    schema = engine._address.schema
    fail(engine, job(id="old"))
    [old] = engine.history(ANY).events
    caller.execute(f"SET search_path TO {schema}")
    caller.execute("INSERT INTO told (at, data) SELECT at, data FROM history LIMIT 1")
    fail(engine, job(id="new"))
    page = engine.history(ANY, cursor=old.cursor)

    caller.commit()
    late = engine.history(ANY, cursor=page.cursor)

    assert [event.job_id for event in page.events] == ["new"]
    assert [event.job_id for event in late.events] == ["old"]


def test_a_call_hands_out_no_more_gated_jobs_than_it_can_in_a_short_time_and_says_that_there_are_more(
    engine: PostgresEngine,
) -> None:
    engine.enqueue([job(id=f"{n}", lane=f"l{n % 7}", flow=using("api")) for n in range(500)])

    first = engine.claim("s", demand(500))
    second = engine.claim("s", demand(500))

    assert (len(first.claims), first.next_due_in_s) == (400, 0.0)
    assert (len(second.claims), second.next_due_in_s) == (100, None)
