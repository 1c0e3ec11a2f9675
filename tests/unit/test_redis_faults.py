"""A server that cannot keep what it is given says so in one sentence, and goes on when it can again."""

import os
import re
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Session, Verdict
from cicely.engines.redis.faults import Refusal, translated
from cicely.errors import EngineCorrupt, EngineError, EngineFull, EngineUnavailable
from redis_server import RedisServer

PATIENCE_S = 10.0
ADDRESS = "redis://db1:6379/0 (cicely)"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer(appendonly="yes", appendfsync="everysec")
    yield server
    server.destroy()


def test_a_disk_without_room_for_the_log_refuses_and_recovers(server: RedisServer) -> None:
    engine = connect(server.url)
    engine.open()
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    engine.enqueue([job("before")])
    [claim] = engine.claim("s", demand()).claims
    log = next(Path(server.folder).rglob("*.aof"))
    # In place of a full disk: no file of this process may grow any more.
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
    until(lambda: is_refused(lambda: engine.enqueue([job(os.urandom(4).hex())])))

    with pytest.raises(
        EngineFull, match="cannot write to its disk and accepts nothing more; make room there"
    ):
        engine.settle("s", [Succeeded(claim.token)])

    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until(lambda: not is_refused(lambda: engine.enqueue([job("after")])))
    assert engine.settle("s", [Succeeded(claim.token)]).verdicts == (Verdict.ACCEPTED,)
    server.kill()
    server.start()
    assert [found is not None for found in engine.get(["before", "after"])] == [True, True]


def test_a_disk_without_room_for_snapshots_refuses() -> None:
    server = RedisServer(save="3600 1")
    try:
        engine = connect(f"{server.url}?durability=none")
        engine.enqueue([job("before")])
        shutil.rmtree(server.folder)
        server.tell("BGSAVE")
        until(lambda: b"rdb_last_bgsave_status:err" in server.tell("INFO", "persistence"))

        with pytest.raises(EngineFull, match="cannot write to its disk and accepts nothing more"):
            engine.enqueue([job("after")])
    finally:
        server.destroy()


def test_a_server_that_reads_its_log_after_a_start_may_be_tried_again() -> None:
    refusal = told("LOADING Redis is loading the dataset in memory")

    assert isinstance(refusal, EngineUnavailable)
    assert "is reading its data from disk after a start" in str(refusal)


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", EngineFull, "no memory left"),
        (
            "ERR Error running script (call to f_1): @user_script:3: @user_script: 3: -OOM command not "
            "allowed when used memory > 'maxmemory'.",
            EngineFull,
            "no memory left",
        ),
        (
            "OOM command not allowed when used memory > 'maxmemory'. script: f1, on @user_script:3.",
            EngineFull,
            "",
        ),
        ("MISCONF Errors writing to the AOF file: No space left on device", EngineFull, "make room there"),
        ("READONLY You can't write against a read only replica.", EngineUnavailable, "read-only replica"),
        ("NOREPLICAS Not enough good replicas to write.", EngineUnavailable, "min-replicas-to-write"),
        ("CLUSTERDOWN The cluster is down", EngineUnavailable, "a cluster that is down"),
        ("BUSY Redis is busy running a script.", EngineUnavailable, "held up by a long script"),
        ("ERR max number of clients reached", EngineUnavailable, "maxclients"),
        ("WRONGPASS invalid username-password pair or user is disabled.", EngineError, "user and password"),
        ("NOAUTH Authentication required.", EngineError, "user and password"),
        ("ERR AUTH <password> called without any password configured", EngineError, "user and password"),
        ("NOPERM this user has no permissions to run the 'info' command", EngineError, "ACL SETUSER"),
        ("DENIED Redis is running in protected mode", EngineError, "protected mode"),
        ("ERR DB index is out of range", EngineError, "has no such database"),
        ("ERR SELECT is not allowed in cluster mode", EngineError, "has no such database"),
        ("WRONGTYPE Operation against a key", EngineCorrupt, "choose another as namespace="),
        ("ERR WAITAOF cannot be used when numlocal is set", EngineError, "durability=power cannot be kept"),
    ],
)
def test_every_refusal_is_one_sentence_with_its_remedy(
    reply: str, kind: type[EngineError], sentence: str
) -> None:
    refusal = told(reply)

    assert type(refusal) is kind
    assert ADDRESS in str(refusal)
    assert sentence in str(refusal)
    assert not re.search(r"[\n\r]", str(refusal))


def told(reply: str) -> EngineError:
    return translated(Refusal(reply), ADDRESS)


def is_refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except EngineFull:
        return True
    return False


def until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def demand() -> Demand:
    return Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 1),))


def job(job_id: str) -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main")
