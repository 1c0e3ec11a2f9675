"""`durability=power`: a call is accepted when the server's log with it is on disk, and not before."""

import os
import time
from collections.abc import Iterator

import pytest

from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Engine, Session, Verdict
from cicely.engines.redis import connections
from cicely.errors import ConfigError, EngineError, EngineUnavailable
from redis_server import RedisServer, newer_binary

NOT_ON_DISK = "its log was not on disk in time, as durability=power asks"


@pytest.fixture(scope="module")
def newer() -> Iterator[RedisServer]:
    """A server that has WAITAOF."""
    server = RedisServer(program=newer_binary(), appendonly="yes", appendfsync="everysec")
    yield server
    server.destroy()


@pytest.fixture
def server(newer: RedisServer) -> Iterator[RedisServer]:
    """Set back what a test changes."""
    yield newer
    newer.tell("CONFIG", "SET", "appendonly", "yes")
    newer.tell("CONFIG", "SET", "appendfsync", "everysec")
    newer.tell("CONFIG", "SET", "maxmemory", "0")
    newer.tell("FLUSHALL")


@pytest.fixture
def engine(server: RedisServer) -> Iterator[Engine]:
    engine = connect(f"{server.url}?durability=power")
    engine.open()
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    yield engine
    engine.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the disk for a moment only."""
    monkeypatch.setattr(connections, "_SYNC_S", 0.3)


def test_what_holds_is_printed(server: RedisServer, engine: Engine) -> None:
    facts = engine.facts()

    assert ("Valkey" in facts.version) == (b"valkey_version" in server.tell("INFO", "server"))
    assert facts.durability == (
        "power: an accepted call survives the loss of power (WAITAOF after each call); a fail-over "
        "to a replica may lose the last moments"
    )


def test_a_job_lives_its_life(engine: Engine) -> None:
    engine.enqueue([job("a")])
    [claim] = engine.claim("s", Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 1),))).claims

    assert engine.settle("s", [Succeeded(claim.token)]).verdicts == (Verdict.ACCEPTED,)


def test_an_accepted_call_has_waited_for_the_disk(server: RedisServer, engine: Engine) -> None:
    engine.enqueue([job("a")])

    info = server.tell("INFO", "persistence").decode()

    assert "aof_pending_bio_fsync:0" in info
    assert calls(server, "waitaof") >= 1


def test_looking_waits_for_nothing(server: RedisServer, engine: Engine) -> None:
    engine.enqueue([job("a")])
    before = calls(server, "waitaof")

    engine.get(["a"])
    engine.queues()
    engine.beat({"s": []}, 1)

    assert calls(server, "waitaof") == before


def test_a_call_that_is_not_on_disk_is_not_accepted(
    server: RedisServer, engine: Engine, impatient: None
) -> None:
    server.tell("CONFIG", "SET", "appendfsync", "no")

    with pytest.raises(EngineUnavailable, match=NOT_ON_DISK):
        engine.enqueue([job("a")])


def test_repeating_a_call_that_is_not_on_disk_waits_for_it_again(
    server: RedisServer, engine: Engine, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tell("CONFIG", "SET", "appendfsync", "no")
    with pytest.raises(EngineUnavailable):
        engine.enqueue([job("a")])

    # The job is there, nothing is written any more; from a fresh line as well.
    with pytest.raises(EngineUnavailable, match=NOT_ON_DISK):
        engine.enqueue([job("a")])
    server.tell("CLIENT", "KILL", "TYPE", "normal")
    with pytest.raises(EngineUnavailable, match=NOT_ON_DISK):
        engine.enqueue([job("a")])

    # Some servers count the second from now on.
    monkeypatch.setattr(connections, "_SYNC_S", 3.0)
    server.tell("CONFIG", "SET", "appendfsync", "everysec")
    assert [answer.fresh for answer in engine.enqueue([job("a")])] == [False]


def test_a_full_server_lets_jobs_end(server: RedisServer, engine: Engine) -> None:
    engine.enqueue([job("a")])
    [claim] = engine.claim("s", Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 1),))).claims
    server.tell("CONFIG", "SET", "maxmemory", "1")

    assert engine.settle("s", [Succeeded(claim.token)]).verdicts == (Verdict.ACCEPTED,)


def test_a_timeout_that_is_shorter_than_a_sync_does_not_cut_it_off(server: RedisServer) -> None:
    engine = connect(f"{server.url}?durability=power&timeout=0.2")
    began_at = time.monotonic()
    while time.monotonic() - began_at < 1.5:
        engine.enqueue([job(os.urandom(4).hex())])
    engine.close()


def test_a_log_that_is_never_synced_is_refused(server: RedisServer) -> None:
    server.tell("CONFIG", "SET", "appendfsync", "no")

    with pytest.raises(ConfigError, match="appendfsync no: it never says that its log is on disk"):
        connect(f"{server.url}?durability=power").open()


def test_a_log_that_was_turned_off_meanwhile_is_said_to_be(server: RedisServer, engine: Engine) -> None:
    server.tell("CONFIG", "SET", "appendonly", "no")

    with pytest.raises(EngineError, match="writes no append-only file any more"):
        engine.enqueue([job("a")])


def test_what_was_accepted_survives_the_death_of_the_server(server: RedisServer, engine: Engine) -> None:
    engine.enqueue([job(f"j{n}") for n in range(200)])
    server.kill()
    server.start()

    assert all(engine.get([f"j{n}" for n in range(200)]))


def calls(server: RedisServer, command: str) -> int:
    info = server.tell("INFO", "commandstats").decode()
    lines = [line for line in info.splitlines() if line.startswith(f"cmdstat_{command}:")]
    return int(lines[0].split("calls=")[1].split(",")[0]) if lines else 0


def job(job_id: str) -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main")
