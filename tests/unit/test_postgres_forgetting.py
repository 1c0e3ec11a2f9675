"""Streams and lanes of which no job is left go; jobs that come to one meanwhile are handed out as ever."""

import os
from collections.abc import Iterator

import psycopg
import pytest

from cicely.core.flow import Flow
from cicely.core.outcome import Succeeded
from cicely.engines.postgres import stream_upkeep
from cicely.engines.postgres.engine import PostgresEngine
from cicely.testing.clock import VirtualClock
from cicely.testing.conformance.bench import ids, job, session, take, using
from cicely.testing.postgres_server import PostgresServer

DAYS_S = 3 * 86_400.0
BATCH = 100


class Place:
    """A schema with a clock of its own."""

    def __init__(self, server: PostgresServer) -> None:
        self.clock = VirtualClock()
        self.schema = f"s{os.urandom(6).hex()}"
        self.url = f"{server.url}?schema={self.schema}"
        self.link = psycopg.connect(server.url, autocommit=True)
        self._opened: list[PostgresEngine] = []

    def engine(self) -> PostgresEngine:
        engine = PostgresEngine(self.url, now=self.clock.now)
        engine.open()
        self._opened.append(engine)
        return engine

    def count(self, table: str) -> int:
        row = self.link.execute(f'SELECT count(*) FROM "{self.schema}".{table}').fetchone()
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        for engine in self._opened:
            engine.close()
        self.link.close()


@pytest.fixture
def place(server: PostgresServer) -> Iterator[Place]:
    place = Place(server)
    yield place
    place.close()


def _run(engine: PostgresEngine, name: str, count: int) -> None:
    """Enqueue and carry out jobs, each with a lane and a key of its own."""
    engine.join(session(id="s"))
    engine.enqueue([job(id=f"{name}{i}", lane=f"{name}{i}", flow=using(f"{name}{i}")) for i in range(count)])
    claims = take(engine, count)
    assert len(claims) == count
    engine.settle("s", [Succeeded(claim.token) for claim in claims])


def _sweep(engine: PostgresEngine) -> None:
    for _ in range(5):
        engine.sweep(BATCH)


def test_streams_of_which_no_job_is_left_are_forgotten(place: Place) -> None:
    engine = place.engine()
    _run(engine, "a", 20)
    assert place.count("stream") == 20

    place.clock.advance(DAYS_S)
    _sweep(engine)

    assert [place.count(table) for table in ("stream", "gate", "band")] == [0, 0, 0]


def test_streams_of_jobs_that_are_kept_stay(place: Place) -> None:
    engine = place.engine()
    _run(engine, "a", 3)
    engine.enqueue([job(id="later", lane="l", flow=using("k"), delay_s=60.0)])

    _sweep(engine)

    assert place.count("stream") == 4


def test_a_queue_with_very_many_lanes_forgets_those_of_which_no_job_is_left(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_upkeep, "_MOST_LANES", 5)
    engine = place.engine()
    _run(engine, "a", 20)

    place.clock.advance(DAYS_S)
    _sweep(engine)
    left = place.count("lane")
    _run(engine, "b", 2)

    assert left < 5


def test_a_job_of_a_forgotten_stream_is_handed_out_also_by_a_process_that_remembers_it(place: Place) -> None:
    engine, other = place.engine(), place.engine()
    _run(engine, "a", 2)
    other.enqueue([job(id="known", lane="a0", flow=using("a0"))])
    engine.settle("s", [Succeeded(claim.token) for claim in take(engine, 1)])
    place.clock.advance(DAYS_S)
    _sweep(engine)
    assert place.count("stream") == 0

    other.enqueue([job(id="b", lane="a0", flow=using("a0"))])
    engine.enqueue([job(id="c", lane="a1", flow=using("a1"), delay_s=1.0)])
    assert ids(take(engine, 5)) == ["b"]
    place.clock.advance(1.0)

    assert ids(take(engine, 5)) == ["c"]


def test_a_job_of_a_callers_transaction_is_handed_out_though_its_stream_was_forgotten_meanwhile(
    place: Place, server: PostgresServer
) -> None:
    engine = place.engine()
    _run(engine, "a", 1)
    engine.enqueue([job(id="plain", flow=Flow())])
    engine.settle("s", [Succeeded(claim.token) for claim in take(engine, 1)])
    place.clock.advance(DAYS_S)

    with psycopg.connect(server.url) as caller:
        engine.within(caller).enqueue([job(id="b", lane="a0", flow=using("a0"))])
        _sweep(engine)
        assert place.count("stream") == 0
        caller.commit()

    assert ids(take(engine, 5)) == ["b"]
