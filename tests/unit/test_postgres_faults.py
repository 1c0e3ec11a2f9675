"""What goes wrong around a server is said once, in one sentence, without credentials."""

import os
import select
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cicely.core.job import Filter
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.postgres.engine import PostgresEngine
from cicely.errors import EngineError, EngineFull, EngineUnavailable, SchemaTooNew
from cicely.testing.conformance.bench import demand, job, look, settle, start, take
from cicely.testing.postgres_server import PostgresServer

PASSWORD = "moss-and-fern"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer(password=PASSWORD)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


def _opened(url: str, schema: str) -> PostgresEngine:
    engine = PostgresEngine(url, schema=schema)
    engine.open()
    return engine


def _refusal(url: str, expected: type[EngineError]) -> str:
    engine = PostgresEngine(url)
    with pytest.raises(expected) as refusal:
        engine.open()
    engine.close()
    assert PASSWORD not in str(refusal.value)
    return str(refusal.value)


def test_a_wrong_password_is_the_operators_move(server: PostgresServer):
    words = _refusal(server.url.replace(PASSWORD, "nettle-tea"), EngineError)

    assert "password authentication failed" in words
    assert "nettle-tea" not in words


def test_a_missing_database_is_named_with_the_remedy(server: PostgresServer):
    words = _refusal(server.url.replace("/postgres", "/nowhere"), EngineError)

    assert "nowhere" in words
    assert "CREATE DATABASE" in words


def test_an_unreachable_server_is_worth_another_try():
    words = _refusal(f"postgresql://cicely:{PASSWORD}@127.0.0.1:1/postgres", EngineUnavailable)

    assert "may be repeated" in words


def test_a_read_only_server_is_named_as_such(server: PostgresServer):
    engine = PostgresEngine(f"{server.url}?options=-c%20default_transaction_read_only%3Don", schema="ro")

    with pytest.raises(EngineError, match="read-only"):
        engine.open()


def test_a_full_disk_is_worth_another_try(server: PostgresServer):
    engine = _opened(server.url, "filled")
    with psycopg.connect(server.url, autocommit=True) as operator:
        operator.execute(
            "CREATE FUNCTION filled.refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
        )
        operator.execute("CREATE TRIGGER refuse BEFORE INSERT ON filled.job EXECUTE FUNCTION filled.refuse()")
        with pytest.raises(EngineFull, match="no space"):
            engine.enqueue([job(id="a")])

        operator.execute("DROP TRIGGER refuse ON filled.job")

    assert engine.enqueue([job(id="a")])[0].fresh
    engine.close()


def test_a_newer_schema_is_refused(server: PostgresServer):
    _opened(server.url, "newer").close()
    with psycopg.connect(server.url, autocommit=True) as operator:
        operator.execute("UPDATE newer.meta SET version = 99")

    with pytest.raises(SchemaTooNew, match="99"):
        _opened(server.url, "newer")


def test_ten_that_start_at_once_on_an_empty_database_all_start(server: PostgresServer):
    engines = [PostgresEngine(server.url, schema="crowd") for _ in range(10)]

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(PostgresEngine.open, engines))

    assert engines[0].enqueue([job(id="a")])[0].fresh
    assert [len(engine.find(Filter()).jobs) for engine in engines] == [1] * 10
    for engine in engines:
        engine.close()


def test_an_engine_says_what_its_server_promises(server: PostgresServer):
    engine = _opened(server.url, "facts")

    facts = engine.facts()

    assert facts.durability.startswith("process:")
    assert "fsync=off" in facts.durability
    assert PASSWORD not in facts.address
    engine.close()


def test_behind_a_transaction_pooler_everything_works_and_nothing_rings(server: PostgresServer):
    engine = _opened(f"{server.url}?pooler=transaction", "pooled")

    claim = start(engine, job(id="a"))
    settle(engine, Succeeded(claim.token))

    assert look(engine).state is State.SUCCEEDED
    assert engine.doorbell("s").fileno() == -1
    assert any("pooler" in warning for warning in engine.facts().warnings)
    engine.close()


def test_a_forked_child_connects_by_itself(server: PostgresServer):
    engine = _opened(server.url, "fork")
    engine.enqueue([job(id="a")])

    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if engine.enqueue([job(id="b")])[0].fresh else 1)
        finally:
            os._exit(2)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert {found.id for found in engine.find(Filter()).jobs} == {"a", "b"}
    engine.close()


def test_a_held_snapshot_and_a_held_enqueue_keep_nobody_from_claiming(server: PostgresServer):
    engine = _opened(server.url, "held")
    start(engine, job(id="first"))
    with psycopg.connect(server.url) as holder:
        holder.execute("SET search_path TO held")
        holder.execute("SELECT nextval('job_n')")
        holder.execute("INSERT INTO delta (queue, ready) SELECT id, 0 FROM queue")

        engine.enqueue([job(id="a")])

        assert [claim.job_id for claim in take(engine)] == ["a"]
        engine.sweep(100)
    engine.close()


@pytest.mark.timeout(60)
def test_after_a_crash_of_the_server_claims_stand_and_bells_ring_again():
    server = PostgresServer()
    try:
        server.start()
        engine = _opened(server.url, "crash")
        claim = start(engine, job(id="a"))
        bell = engine.doorbell("s")
        bell.arm()

        server.kill()
        with pytest.raises(EngineUnavailable):
            engine.claim("s", demand())
        server.start()

        assert _eventually(lambda: settle(engine, Succeeded(claim.token)) == "accepted")
        assert _eventually(lambda: _rings_for_new_work(engine, bell))
        bell.close()
        engine.close()
    finally:
        server.destroy()


def _eventually(condition) -> bool:
    give_up_at = time.monotonic() + 10
    while time.monotonic() < give_up_at:
        try:
            if condition():
                return True
        except EngineUnavailable:
            pass
        time.sleep(0.05)
    return False


def _rings_for_new_work(engine: PostgresEngine, bell) -> bool:
    bell.disarm()
    bell.arm()
    engine.enqueue([job(id=os.urandom(4).hex())])
    return bool(select.select([bell.fileno()], [], [], 0.5)[0])
