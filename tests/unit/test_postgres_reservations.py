"""What a workflow reserves misses none of its jobs, whoever commits when, and costs others nothing."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from cicely.core import failpoints
from cicely.core.outcome import HandedBack, Succeeded
from cicely.core.reservations import EVERYTHING
from cicely.engines.contract import Verdict
from cicely.engines.postgres import cascade
from cicely.engines.postgres.engine import PostgresEngine
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.testing.conformance.bench import demand, ids, job, session, settle, take, take_one, using, wanting
from cicely.testing.postgres_server import PostgresServer

GPU = wanting(gpu=1)
OFFERS = {"gpu": {"0": 1.0}}
OPEN_S = 20.0


class Place:
    """A schema, an engine on it, and a connection beside it."""

    def __init__(self, server: PostgresServer) -> None:
        schema = f"s{os.urandom(6).hex()}"
        self.engine = PostgresEngine(f"{server.url}?schema={schema}")
        self.engine.open()
        self.link = psycopg.connect(server.url, autocommit=True)
        self.link.execute(f"SET search_path TO {schema}")

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        return self.link.execute(statement.encode()).fetchall()

    def drawing(self) -> int:
        """How many ready jobs stand where those stand that draw."""
        [(count,)] = self.ask(
            "SELECT count(*) FROM ready r JOIN stream s ON s.id = r.stream JOIN gate g ON g.id = s.gate "
            "JOIN band b ON b.id = g.band WHERE position('draws'::bytea IN b.wants) > 0"
        )
        return int(count)

    def close(self) -> None:
        self.engine.close()
        self.link.close()


@pytest.fixture
def place(server: PostgresServer) -> Iterator[Place]:
    place = Place(server)
    yield place
    place.close()


def _claimed(engine: PostgresEngine, many: int = 0) -> bytes:
    """Return the token of a job that may keep its GPU, of a workflow with so many ready ones that want it.

    The last of these wants it in a queue of its own.
    """
    engine.join(session(id="s", worker="boss", queues=("main", "side"), offers=OFFERS))
    engine.enqueue([job(id="first", workflow="w", flow=GPU, priority=9)])
    queues = ["main"] * (many - 1) + ["side"]
    engine.enqueue([job(id=f"j{n}", workflow="w", flow=GPU, queue=queues[n]) for n in range(many)])
    return take_one(engine).token


def _keep(engine: PostgresEngine, token: bytes) -> None:
    assert settle(engine, Succeeded(token, keeps=("gpu",))) is Verdict.ACCEPTED


# --- large workflows ----------------------------------------------------------------------
def test_of_a_large_workflow_so_many_jobs_at_once_come_to_draw(place: Place) -> None:
    many = 4 * cascade.MOST_TOUCHED
    token = _claimed(place.engine, many)
    moved: list[int] = []
    failpoints.install(
        lambda name: moved.append(place.drawing()) if name == "postgres.settle.after_commit" else None
    )
    try:
        _keep(place.engine, token)
    finally:
        failpoints.install(None)
    for _ in range(20):
        if not place.engine.sweep(1_000).more:
            break

    [at_once] = moved
    assert 0 < at_once < many
    assert place.drawing() == many


def test_what_follows_behind_a_call_does_not_repeat_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "_LONG_S", 0.0)
    many = 2 * cascade._PAGE - 1
    engine = place.engine
    keeping = _claimed(engine, many)
    engine.enqueue([job(id="plain", queue="side", priority=9)])
    [plain] = engine.claim("s", demand(1, queues=("side",))).claims
    _keep(engine, keeping)

    # What is left of that, for which a stream has to be named, is done behind this one.
    assert settle(engine, Succeeded(plain.token)) is Verdict.ACCEPTED
    assert place.drawing() == many


# --- in one call --------------------------------------------------------------------------
def test_what_becomes_ready_before_a_reservation_ends_was_to_draw_from_it(place: Place) -> None:
    engine = place.engine
    engine.enqueue([job(id="end", workflow="w", queue="never")])
    _keep(engine, _claimed(engine))
    engine.enqueue([job(id="draws", workflow="w", flow=GPU), job(id="release", workflow="w", queue="side")])
    draws = take_one(engine)
    [release] = engine.claim("s", demand(1, queues=("side",))).claims

    engine.settle("s", [HandedBack(draws.token), Succeeded(release.token, frees=("gpu",))])

    assert place.drawing() == 1


# --- at the same moment -------------------------------------------------------------------
def test_a_job_that_somebody_stores_just_then_draws_as_well(place: Place) -> None:
    engine = place.engine
    token = _claimed(engine)
    with _stopped_before_the_commit_of("enqueue") as (is_there, go), ThreadPoolExecutor(2) as threads:
        stored = threads.submit(engine.enqueue, [job(id="a", workflow="w", flow=GPU)])
        assert is_there.wait(OPEN_S)
        kept = threads.submit(_keep, engine, token)
        with pytest.raises(TimeoutError):
            kept.result(0.3)
        go.set()
        stored.result(OPEN_S)
        kept.result(OPEN_S)

    assert place.drawing() == 1


def test_a_job_that_is_stored_while_somebody_reserves_draws_as_well(place: Place) -> None:
    engine = place.engine
    token = _claimed(engine)
    with _stopped_before_the_commit_of("settle") as (is_there, go), ThreadPoolExecutor(2) as threads:
        kept = threads.submit(_keep, engine, token)
        assert is_there.wait(OPEN_S)
        stored = threads.submit(engine.enqueue, [job(id="a", workflow="w", flow=GPU)])
        with pytest.raises(TimeoutError):
            stored.result(0.3)
        go.set()
        kept.result(OPEN_S)
        stored.result(OPEN_S)

    assert place.drawing() == 1


def test_one_of_a_callers_transaction_draws_as_well_and_keeps_nobody_waiting(
    server: PostgresServer, place: Place
) -> None:
    engine = place.engine
    token = _claimed(engine)
    with psycopg.connect(server.url) as caller:
        engine.within(caller).enqueue([job(id="a", workflow="w", flow=GPU)])
        _keep(engine, token)
        caller.commit()
    engine.enqueue([job(id="foreign", flow=GPU, priority=9)])
    engine.sweep(100)

    assert ids(take(engine, 5)) == ["a"]


def test_what_was_freed_while_a_job_drew_it_is_that_jobs_own(place: Place) -> None:
    engine = place.engine
    engine.enqueue([job(id="end", workflow="w", queue="never")])
    _keep(engine, _claimed(engine))
    engine.enqueue([job(id="release", workflow="w", queue="side")])
    [release] = engine.claim("s", demand(1, queues=("side",))).claims
    engine.enqueue([job(id="a", workflow="w", flow=GPU)])
    with _stopped_before_the_commit_of("claim") as (is_there, go), ThreadPoolExecutor(2) as threads:
        claimed = threads.submit(take_one, engine)
        assert is_there.wait(OPEN_S)
        freed = threads.submit(settle, engine, Succeeded(release.token, frees=(EVERYTHING,)))
        with pytest.raises(TimeoutError):
            freed.result(0.3)
        go.set()
        assert claimed.result(OPEN_S).job_id == "a"
        freed.result(OPEN_S)

    assert place.ask("SELECT worker, drawn FROM taken") == [("boss", None)]
    assert place.ask("SELECT * FROM reservation") == []


def test_where_the_last_sessions_of_a_worker_leave_at_the_same_moment_a_sweep_ends_it(place: Place) -> None:
    engine = place.engine
    engine.enqueue([job(id="end", workflow="w", queue="never")])
    _keep(engine, _claimed(engine))
    place.link.execute("UPDATE session SET closed_at = 1")

    engine.sweep(100)

    assert place.ask("SELECT * FROM reservation") == []


class _stopped_before_the_commit_of:  # noqa: N801  (it reads as a word)
    """The first call of a verb stops before its commit, until it is told to go on."""

    def __init__(self, verb: str) -> None:
        self._name = f"postgres.{verb}.before_commit"
        self._is_there, self._go = threading.Event(), threading.Event()

    def __enter__(self) -> tuple[threading.Event, threading.Event]:
        failpoints.install(self._pass)
        return self._is_there, self._go

    def _pass(self, name: str) -> None:
        if name == self._name and not self._is_there.is_set():
            self._is_there.set()
            self._go.wait(OPEN_S)

    def __exit__(self, *_: object) -> None:
        self._go.set()
        failpoints.install(None)


# --- older tables -------------------------------------------------------------------------
def test_jobs_of_older_tables_draw_as_well(place: Place) -> None:
    engine = place.engine
    token = _claimed(engine, 1)
    place.link.execute(
        "UPDATE job SET traits = traits & ~256; DROP TABLE reservation; DROP INDEX job_stream; "
        "ALTER TABLE taken DROP COLUMN workflow, DROP COLUMN drawn; "
        "ALTER TABLE came DROP COLUMN rank, DROP COLUMN n; UPDATE meta SET version = 4; "
        "UPDATE session SET beat_at = 1"
    )
    engine.migrate()

    _keep(engine, token)

    assert place.drawing() == 1


# --- what it costs ------------------------------------------------------------------------
def test_a_job_without_resources_asks_nothing_of_reservations(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = place.engine
    _keep(engine, _claimed(engine, 1))
    asked: list[str] = []
    for name in ("row", "rows", "execute"):
        monkeypatch.setattr(Transaction, name, _noting(asked, getattr(Transaction, name)))

    engine.enqueue([job(id="plain", priority=9), job(id="in lane", lane="a", priority=9)])
    engine.enqueue([job(id="of w", workflow="w", flow=using("api"), priority=9)])
    claims = take(engine, 3)
    engine.settle("s", [Succeeded(claim.token) for claim in claims])

    assert {"plain", "in lane", "of w"} >= set(ids(claims))
    assert len(claims) == 3
    assert not set(statements("reserve").values()) & set(asked)


def _noting(asked: list[str], ask: Callable[..., Any]) -> Callable[..., Any]:
    def noted(txn: Transaction, statement: str, *values: Any) -> Any:
        asked.append(statement)
        return ask(txn, statement, *values)

    return noted
