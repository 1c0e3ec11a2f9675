"""A server is looked at when it is opened: refused with a remedy, or described as it is."""

import os
from collections.abc import Iterator

import pytest

from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Engine, Session, Verdict
from cicely.errors import (
    CicelyError,
    ConfigError,
    EngineCorrupt,
    EngineError,
    EngineFull,
    EngineUnavailable,
    SchemaTooNew,
)
from redis_server import RedisServer, free_port, shared_server

SECRET = "hunter2"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server that writes a log."""
    server = RedisServer(appendonly="yes", appendfsync="everysec")
    yield server
    server.destroy()


@pytest.fixture(autouse=True)
def settings(server: RedisServer) -> Iterator[None]:
    """Set back what a test changes."""
    yield
    for name, value in (
        ("maxmemory-policy", "noeviction"),
        ("maxmemory", "0"),
        ("appendfsync", "everysec"),
        ("appendonly", "yes"),
        ("save", ""),
    ):
        server.tell("CONFIG", "SET", name, value)
    server.tell("ACL", "DELUSER", "ann")
    server.tell("FLUSHALL")


def opened(url: str) -> Engine:
    engine = connect(url)
    engine.open()
    return engine


def refused(url: str, error: type[CicelyError] = EngineError) -> str:
    with pytest.raises(error) as refusal:
        opened(url)
    assert SECRET not in str(refusal.value)
    return str(refusal.value)


def durability(server: RedisServer, options: str = "") -> str:
    return opened(f"{server.url}{options}").facts().durability


# --- what it keeps ------------------------------------------------------------------------------
def test_a_log_that_is_synced_each_second_survives_processes(server: RedisServer) -> None:
    assert durability(server) == (
        "process: an accepted call survives the death of any process; but up to 2 s are lost with the power, "
        "or when the server is killed while its disk is slow (appendfsync everysec); a fail-over to a "
        "replica may lose the last moments"
    )


def test_a_log_that_is_synced_always_survives_the_loss_of_power(server: RedisServer) -> None:
    server.tell("CONFIG", "SET", "appendfsync", "always")

    assert durability(server, "?durability=power").startswith("power: an accepted call survives the loss of")


def test_a_server_without_a_log_is_refused(server: RedisServer) -> None:
    server.tell("CONFIG", "SET", "appendonly", "no")

    assert "its crash loses all of it" in refused(server.url)
    assert "CONFIG SET appendonly yes" in refused(server.url)


def test_a_server_without_a_log_may_be_asked_for(server: RedisServer) -> None:
    server.tell("CONFIG", "SET", "appendonly", "no")

    assert durability(server, "?durability=none") == "none: a crash of the server loses all of it"


def test_a_server_with_snapshots_only_says_how_old_they_may_be(server: RedisServer) -> None:
    server.tell("CONFIG", "SET", "appendonly", "no")
    server.tell("CONFIG", "SET", "save", "3600 1 300 100")

    assert durability(server, "?durability=none") == (
        "none: a crash of the server loses the last 60 minutes: what came after a snapshot "
        "(save 3600 1 300 100)"
    )


def test_snapshots_that_wait_for_many_changes_say_how_many_may_go(server: RedisServer) -> None:
    server.tell("CONFIG", "SET", "appendonly", "no")
    server.tell("CONFIG", "SET", "save", "300 100")

    assert durability(server, "?durability=none") == (
        "none: a crash of the server loses the last 5 minutes or the last 99 changes: what came after a "
        "snapshot (save 300 100)"
    )


def test_power_is_refused_where_the_server_cannot_wait_for_its_log(server: RedisServer) -> None:
    refusal = refused(f"{server.url}?durability=power", ConfigError)

    assert "durability=power needs WAITAOF, which Redis has since 7.2" in refusal


def test_what_a_server_forbids_to_look_at_is_unknown(server: RedisServer) -> None:
    server.tell("ACL", "SETUSER", "ann", "on", f">{SECRET}", "~*", "&*", "+@all", "-config")
    url = f"redis://ann:{SECRET}@127.0.0.1:{server.port}/0"

    said = opened(url).facts().durability

    assert "unknown for the loss of power, and for a killed server with a slow disk" in said
    assert "as the server forbids CONFIG" in said


# --- eviction -----------------------------------------------------------------------------------
def test_a_server_that_would_delete_jobs_is_refused(server: RedisServer) -> None:
    server.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    assert "CONFIG SET maxmemory-policy noeviction" in refused(server.url)


def test_eviction_may_be_allowed_and_is_warned_of(server: RedisServer) -> None:
    server.tell("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")

    [warning] = opened(f"{server.url}?allow_eviction=1").facts().warnings

    assert "maxmemory-policy is volatile-ttl" in warning


def test_a_full_server_refuses_new_jobs_whole(server: RedisServer) -> None:
    engine = opened(server.url)
    engine.enqueue([job("known")])
    server.tell("CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(EngineFull, match="no memory left under its maxmemory"):
        engine.enqueue([job("refused"), job("refused, too")])

    server.tell("CONFIG", "SET", "maxmemory", "0")
    assert engine.get(["refused", "refused, too"]) == [None, None]
    assert [answer.fresh for answer in engine.enqueue([job("known"), job("refused")])] == [False, True]


def test_a_full_server_lets_jobs_start_and_end(server: RedisServer) -> None:
    engine = opened(server.url)
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    engine.enqueue([job("a"), job("b")])
    [claim] = engine.claim("s", demand()).claims
    server.tell("CONFIG", "SET", "maxmemory", "1")

    settled = engine.settle("s", [Succeeded(claim.token, b"result")], demand())

    assert settled.verdicts == (Verdict.ACCEPTED,)
    assert [next_claim.job_id for next_claim in settled.intake.claims] == ["b"]


# --- refusals -----------------------------------------------------------------------------------
def test_a_wrong_password_is_said_to_be_one(server: RedisServer) -> None:
    server.tell("ACL", "SETUSER", "ann", "on", ">another", "~*", "&*", "+@all")

    refusal = refused(f"redis://ann:{SECRET}@127.0.0.1:{server.port}/0")

    assert refusal.endswith("refuses this user and password; correct them in the URL")


def test_a_password_that_nobody_asked_for_is_said_to_be_one(server: RedisServer) -> None:
    assert "refuses this user and password" in refused(f"redis://:{SECRET}@127.0.0.1:{server.port}/0")


def test_a_missing_permission_is_named(server: RedisServer) -> None:
    server.tell("ACL", "SETUSER", "ann", "on", f">{SECRET}", "~*", "&*", "+@all", "-evalsha", "-script")

    refusal = refused(f"redis://ann:{SECRET}@127.0.0.1:{server.port}/0")

    assert "lacks a permission for this user" in refusal


def test_a_wrong_database_is_said_to_be_one(server: RedisServer) -> None:
    assert "has no such database" in refused(f"redis://127.0.0.1:{server.port}/99")


def test_an_unreachable_server_may_be_tried_again() -> None:
    refusal = refused(f"redis://:{SECRET}@127.0.0.1:{free_port()}/0", EngineUnavailable)

    assert refusal.startswith("cannot reach redis://127.0.0.1:")
    assert refusal.endswith("the call may be repeated")


def test_an_unknown_host_is_said_to_be_one() -> None:
    assert "cannot reach redis://db1.invalid:6379/0" in refused("redis://db1.invalid", EngineUnavailable)


def test_a_server_without_tls_is_said_to_have_none(server: RedisServer) -> None:
    refusal = refused(f"rediss://127.0.0.1:{server.port}/0?timeout=0.2", EngineUnavailable)

    assert "a server without it is reached by redis://" in refusal


def test_a_replica_is_refused_and_names_its_master(server: RedisServer) -> None:
    replica = RedisServer(appendonly="yes", replicaof=f"127.0.0.1 {server.port}")
    try:
        assert f"read-only replica of 127.0.0.1:{server.port}" in refused(replica.url)
    finally:
        replica.destroy()


def test_a_server_that_becomes_a_replica_may_be_tried_again(server: RedisServer) -> None:
    engine = opened(server.url)
    server.tell("REPLICAOF", "127.0.0.1", str(free_port()))
    try:
        with pytest.raises(EngineUnavailable, match="read-only replica; a fail-over may be under way"):
            engine.enqueue([job("a")])
    finally:
        server.tell("REPLICAOF", "NO", "ONE")

    assert engine.enqueue([job("a")])[0].fresh


def test_a_namespace_of_a_newer_cicely_is_refused(server: RedisServer) -> None:
    opened(server.url)
    server.tell("HSET", "{cicely}:meta", "format", "4")

    assert "format 4; this one knows 3" in refused(server.url, SchemaTooNew)


def test_a_namespace_of_another_program_is_refused(server: RedisServer) -> None:
    server.tell("SET", "{cicely}:meta", "1")

    assert "choose another as namespace=" in refused(server.url, EngineCorrupt)


# --- names --------------------------------------------------------------------------------------
def test_namespaces_do_not_see_each_other() -> None:
    one, other = (opened(f"{shared_server().url}?durability=none&namespace={name}") for name in "ab")
    one.enqueue([job("a")])

    assert other.get(["a"]) == [None]
    one.steer("cancel", ["a"])
    one.steer("discard", ["a"])


def test_the_address_is_shown_without_the_password(server: RedisServer) -> None:
    server.tell("ACL", "SETUSER", "ann", "on", f">{SECRET}", "~*", "&*", "+@all")

    facts = opened(f"redis://ann:{SECRET}@127.0.0.1:{server.port}/0").facts()

    assert facts.address == f"redis://127.0.0.1:{server.port}/0 (cicely)"
    assert SECRET not in repr(facts)


def demand() -> Demand:
    return Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 1),))


def job(job_id: str) -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main")
