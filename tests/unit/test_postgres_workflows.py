"""What comes after a job on PostgreSQL, where many writers end its parents at the same time."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cicely.core import failpoints
from cicely.core.edge import Edge, Rule
from cicely.core.job import Claim
from cicely.core.outcome import Await, Failed, Succeeded, Suspended
from cicely.core.states import State
from cicely.engines.postgres.engine import PostgresEngine
from cicely.testing.conformance.bench import (
    counts,
    demand,
    ids,
    job,
    look,
    session,
    settle,
    start,
    state_of,
    take,
    take_one,
)
from cicely.testing.conformance.cascades import chain, fail_first, finish_sweeping
from cicely.testing.postgres_server import PostgresServer

MEMBERS = 48
WRITERS = 8
ROUNDS = 4
MANY = 700


@pytest.fixture
def place(server: PostgresServer) -> str:
    return f"{server.url}?schema=s{os.urandom(6).hex()}"


@pytest.fixture
def engine(place: str) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(place)
    engine.open()
    engine.join(session(id="s"))
    yield engine
    engine.close()


@pytest.fixture
def other(place: str) -> Iterator[psycopg.Connection]:
    """Somebody else's connection to the tables."""
    url, _, schema = place.partition("?schema=")
    with psycopg.connect(url, options=f"-c search_path={schema}") as connection:
        yield connection


def chord(engine: PostgresEngine, members: int, *, name: str = "z") -> list[Claim]:
    """Enqueue a join of so many jobs, and claim them."""
    names = [f"{name}{n:03}" for n in range(members)]
    engine.enqueue([job(id=name), *(job(id=one) for one in names)], [Edge(one, name) for one in names])
    return list(take(engine, members))


def count(other: psycopg.Connection, table: str) -> int:
    [(rows,)] = other.execute(f"SELECT count(*) FROM {table}").fetchall()
    other.commit()
    return int(rows)


# --- many writers ---------------------------------------------------------------------------------
@pytest.mark.parametrize("members", [2, 5, MEMBERS])
def test_a_join_is_released_whoever_ends_its_parents_at_the_same_time(
    engine: PostgresEngine, other: psycopg.Connection, members: int
) -> None:
    for number in range(ROUNDS):
        claims = chord(engine, members, name=f"z{number}-")
        together = threading.Barrier(min(WRITERS, members))

        def end(claim: Claim, together: threading.Barrier = together) -> None:
            if members <= WRITERS:
                together.wait(10)
            settle(engine, Succeeded(claim.token))

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(end, claims))

        assert ids(take(engine, 5)) == [f"z{number}-"]
        assert look(engine, f"z{number}-").pending == 0
    assert count(other, "arrival") == 0


def test_who_ends_a_parent_does_not_wait_for_another_who_does(
    engine: PostgresEngine, other: psycopg.Connection
) -> None:
    first, second = chord(engine, 2)
    other.execute("SELECT FROM node WHERE waits FOR UPDATE")

    began = time.monotonic()
    settle(engine, Succeeded(first.token))
    settle(engine, Succeeded(second.token))

    assert time.monotonic() - began < 2.0
    assert (state_of(engine, "z"), look(engine, "z").pending) == (State.WAITING, 0)


def test_what_nobody_folded_is_folded_by_a_sweep(engine: PostgresEngine, other: psycopg.Connection) -> None:
    first, second = chord(engine, 2)
    other.execute("SELECT FROM node WHERE waits FOR UPDATE")
    settle(engine, Succeeded(first.token))
    settle(engine, Failed(second.token, "error", b"why"))
    other.rollback()
    assert count(other, "arrival") == 2

    engine.sweep(100)

    assert (state_of(engine, "z"), look(engine, "z").cause) == (State.CANCELLED, second.job_id)
    assert count(other, "arrival") == 0


def test_an_edge_that_is_added_while_its_parent_ends_is_decided(engine: PostgresEngine) -> None:
    for number in range(30):
        engine.enqueue([job(id=f"a{number}")])

        def run(number: int = number) -> None:
            for claim in take(engine, 1):
                settle(engine, Succeeded(claim.token))

        def add(number: int = number) -> None:
            engine.enqueue([job(id=f"b{number}", delay_s=60)], [Edge(f"a{number}", f"b{number}")])

        _at_once(run, add)
        while claims := take(engine, 5):
            engine.settle("s", [Succeeded(claim.token) for claim in claims])
    assert counts(engine) == {State.SUCCEEDED: 30, State.SCHEDULED: 30}


def test_an_event_that_is_sent_while_a_job_begins_to_wait_is_taken(engine: PostgresEngine) -> None:
    for number in range(30):
        claim = start(engine, job(id=f"a{number}"))
        wait = Suspended(claim.token, event=Await("go", f"a{number}", "wait:go:0"))

        _at_once(
            lambda wait=wait: engine.settle("s", [wait]),
            lambda number=number: engine.signal(f"e{number}", "go", f"a{number}", b"yes"),
        )

        settle(engine, Succeeded(take_one(engine).token))
        assert [step.value for step in engine.steps(f"a{number}")] == [b"yes"]


def test_a_workflow_that_is_published_while_it_is_written_begins(engine: PostgresEngine) -> None:
    for number in range(20):
        workflow = f"w{number}"
        _at_once(
            lambda workflow=workflow: engine.enqueue([job(id=workflow, workflow=workflow, held=True)]),
            lambda workflow=workflow: engine.publish(workflow),
        )
    assert counts(engine) == {State.READY: 20}


def _at_once(*acts: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(acts)) as pool:
        for future in [pool.submit(act) for act in acts]:
            future.result(20)


# --- what is too much for one call ----------------------------------------------------------------
def fan(engine: PostgresEngine) -> list[str]:
    names = [f"n{n:03}" for n in range(MANY)]
    engine.enqueue([job(id="a"), *(job(id=name) for name in names)], [Edge("a", name) for name in names])
    return names


def test_one_call_touches_a_few_hundred_jobs_and_writes_down_the_rest(
    engine: PostgresEngine, other: psycopg.Connection
) -> None:
    fan(engine)

    fail_first(engine)

    assert 64 <= counts(engine)[State.CANCELLED] <= 256
    assert count(other, "intent") == 1


def test_later_calls_of_the_same_process_carry_it_on(engine: PostgresEngine) -> None:
    fan(engine)
    fail_first(engine)

    for _ in range(20):
        engine.claim("s", demand())

    assert counts(engine) == {State.FAILED: 1, State.CANCELLED: MANY}


def test_a_revival_waits_for_what_the_end_has_left(engine: PostgresEngine) -> None:
    names = fan(engine)
    fail_first(engine)
    assert engine.steer("revive", ["a"]) == ["a"]

    finish_sweeping(engine)
    assert {state_of(engine, name) for name in names} == {State.WAITING}
    settle(engine, Succeeded(take_one(engine).token))
    finish_sweeping(engine)

    assert counts(engine) == {State.SUCCEEDED: 1, State.READY: MANY}


def test_an_end_that_comes_while_a_revival_goes_on_is_decided_after_it(engine: PostgresEngine) -> None:
    names = fan(engine)
    fail_first(engine)
    engine.steer("revive", ["a"])
    claim = take_one(engine)
    engine.enqueue([job(id="late")], [Edge("a", "late")])

    settle(engine, Succeeded(claim.token))
    finish_sweeping(engine)

    assert {state_of(engine, name) for name in [*names, "late"]} == {State.READY}


def test_a_crash_between_the_end_and_what_follows_undoes_both(engine: PostgresEngine) -> None:
    engine.enqueue([job(id=name) for name in "abc"], [*chain("a", "b"), Edge("a", "c", Rule.FAILURE)])
    claim = take_one(engine)
    for place in ("postgres.settle.before_release", "postgres.cascade.written"):
        failpoints.install(lambda name, place=place: _stop(name, place))
        try:
            with pytest.raises(KeyboardInterrupt):
                settle(engine, Succeeded(claim.token))
        finally:
            failpoints.install(None)
        assert [state_of(engine, name) for name in "abc"] == [State.RUNNING, State.WAITING, State.WAITING]

    settle(engine, Succeeded(claim.token))
    assert [state_of(engine, name) for name in "bc"] == [State.READY, State.CANCELLED]


def _stop(name: str, place: str) -> None:
    if name == place:
        raise KeyboardInterrupt


def test_who_finds_nothing_waits_while_another_carries_on_what_is_left(
    engine: PostgresEngine, other: psycopg.Connection
) -> None:
    names = [f"n{n}" for n in range(MANY)]
    engine.enqueue([job(id=name) for name in ("a", *names)], [Edge("a", name) for name in names])
    claim = take_one(engine)
    other.execute("SELECT pg_advisory_lock(hashtext('cicely intents'), hashtext(current_schema()))")
    settle(engine, Succeeded(claim.token))
    assert len(take(engine, MANY)) < MANY

    # The other one rings for what it makes ready: asking at once would find nothing again.
    in_vain = engine.claim("s", demand(MANY))
    assert (in_vain.claims, in_vain.next_due_in_s) == ((), None)

    other.rollback()
    other.execute("SELECT pg_advisory_unlock_all()")
    assert engine.claim("s", demand(MANY)).next_due_in_s == 0.0
    assert take(engine, MANY)


# --- what it costs --------------------------------------------------------------------------------
def test_a_plain_job_has_no_row_in_the_tables_of_workflows(
    engine: PostgresEngine, other: psycopg.Connection
) -> None:
    claim = start(engine, job(id="a"))
    settle(engine, Succeeded(claim.token))

    for table in ("node", "edge", "arrival", "intent", "label", "workflow", "held", "step", "gone"):
        assert count(other, table) == 0


def test_nothing_of_a_deleted_workflow_is_left(engine: PostgresEngine, other: psycopg.Connection) -> None:
    engine.enqueue([job(id=name, workflow="w", group="g", held=name == "a") for name in "abc"], chain(*"abc"))
    engine.publish("w")
    claim = take_one(engine)
    settle(engine, Suspended(claim.token, event=Await("go", "a", "k")))
    engine.signal("e", "go", "a", b"")
    engine.steer("cancel", ["a"])

    assert engine.steer("discard", ["c", "b", "a"]) == ["c", "b", "a"]

    for table in ("node", "edge", "arrival", "intent", "label", "held", "step", "gone", "job", "done"):
        assert count(other, table) == 0
