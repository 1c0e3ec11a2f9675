"""A cluster and sentinels: all keys of a namespace lie in one slot, and the master is found again."""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Engine, Session, Verdict
from cicely.errors import EngineUnavailable
from redis_server import RedisServer

T = TypeVar("T")

PATIENCE_S = 20.0
SLOTS = (range(5461), range(5461, 10923), range(10923, 16384))


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    """Three masters that share the slots."""
    nodes = [RedisServer(appendonly="yes", cluster_enabled="yes") for _ in SLOTS]
    for node, slots in zip(nodes, SLOTS, strict=True):
        node.tell("CLUSTER", "ADDSLOTS", *map(str, slots))
        node.tell("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port))
    for node in nodes:
        until(lambda node=node: b"cluster_state:ok" in node.tell("CLUSTER", "INFO"))
        until(lambda node=node: b"cluster_known_nodes:3" in node.tell("CLUSTER", "INFO"))
    yield nodes
    for node in nodes:
        node.destroy()


@pytest.mark.parametrize("node", range(3))
def test_any_node_of_a_cluster_leads_to_the_namespace(cluster: list[RedisServer], node: int) -> None:
    engine = connect(f"{cluster[node].url}?namespace=n{node}")
    engine.open()

    assert live(engine, f"job {node}") is Verdict.ACCEPTED


def test_namespaces_spread_over_a_cluster(cluster: list[RedisServer]) -> None:
    for number in range(12):
        engine = connect(f"{cluster[0].url}?namespace=spread{number}")
        engine.open()

    sizes = [int(node.tell("DBSIZE")[1:]) for node in cluster]

    assert all(sizes)


def test_a_bell_hears_wherever_the_namespace_lies(cluster: list[RedisServer]) -> None:
    for number, node in enumerate(cluster):
        engine = connect(f"{node.url}?namespace=heard{number}")
        engine.open()
        engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
        bell = engine.doorbell("s")
        bell.arm()

        connect(f"{cluster[0].url}?namespace=heard{number}").enqueue([job("a")])

        assert select.select([bell.fileno()], [], [], 5.0)[0]
        bell.close()


def test_a_fail_over_is_followed(tmp_path: object) -> None:
    master = RedisServer(appendonly="yes")
    replica = RedisServer(appendonly="yes", replicaof=f"127.0.0.1 {master.port}")
    sentinel = RedisServer(sentinel_of=master.port)
    try:
        until(lambda: b"master_link_status:up" in replica.tell("INFO", "replication"))
        until(lambda: b"slaves=1" in sentinel.tell("INFO", "sentinel"))
        engine = connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/jobs/0")
        engine.open()
        assert live(engine, "before") is Verdict.ACCEPTED
        until(lambda: replica.tell("GET", "x") == b"$-1\r\n" and int(replica.tell("DBSIZE")[1:]) > 5)

        until(lambda: sentinel.tell("SENTINEL", "FAILOVER", "jobs").startswith(b"+OK"))
        until(lambda: b"role:master" in replica.tell("INFO", "replication"))

        assert until(lambda: attempt(lambda: live(engine, "after"))) is Verdict.ACCEPTED
        assert engine.get(["before", "after"]) != [None, None]
        until(lambda: b"role:slave" in master.tell("INFO", "replication"))
        assert b"role:master" in replica.tell("INFO", "replication")
    finally:
        for server in (sentinel, replica, master):
            server.destroy()


def test_what_a_fail_over_loses_is_only_its_last_moments(capsys: pytest.CaptureFixture[str]) -> None:
    master = RedisServer(appendonly="yes")
    replica = RedisServer(appendonly="yes", replicaof=f"127.0.0.1 {master.port}")
    sentinel = RedisServer(sentinel_of=master.port)
    try:
        until(lambda: b"master_link_status:up" in replica.tell("INFO", "replication"))
        until(lambda: b"slaves=1" in sentinel.tell("INFO", "sentinel"))
        engine = connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/jobs/0")
        engine.open()
        accepted = enqueued_until_killed(engine, master)

        until(lambda: attempt(lambda: engine.enqueue([job("after")])))

        lost = [at for job_id, at in accepted.items() if engine.get([job_id]) == [None]]
        last_at = max(accepted.values())
        oldest_s = last_at - min(lost, default=last_at)
        with capsys.disabled():
            print(
                f"\na fail-over lost {len(lost)} of {len(accepted)} jobs, the last {oldest_s * 1000:.0f} ms"
            )
        assert "a fail-over to a replica may lose the last moments" in engine.facts().durability
        assert oldest_s < 1.0
        assert live(engine, "later") is Verdict.ACCEPTED
    finally:
        for server in (sentinel, replica, master):
            server.destroy()


def enqueued_until_killed(engine: Engine, master: RedisServer) -> dict[str, float]:
    """Enqueue jobs for a while, kill the master among them, and return when which was accepted."""
    accepted: dict[str, float] = {}
    kill_at = time.monotonic() + 0.5
    killer = threading.Timer(0.5, master.kill)
    killer.start()
    while time.monotonic() < kill_at + PATIENCE_S:
        job_id = f"j{len(accepted)}"
        if attempt(lambda job_id=job_id: engine.enqueue([job(job_id)])) is None:
            break
        accepted[job_id] = time.monotonic()
    killer.join()
    return accepted


def live(engine: Engine, job_id: str) -> Verdict:
    """Carry a job from its enqueue to its success."""
    session_id = os.urandom(4).hex()
    engine.join(Session(id=session_id, worker=session_id, tasks=frozenset({"work"})))
    engine.enqueue([job(job_id)])
    [claim] = engine.claim(session_id, Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 1),))).claims
    return engine.settle(session_id, [Succeeded(claim.token)]).verdicts[0]


def attempt(act: Callable[[], T]) -> T | None:
    with contextlib.suppress(EngineUnavailable):
        return act()
    return None


def until(holds: Callable[[], T]) -> T:
    """Wait until something holds, and return it."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    return found


def job(job_id: str) -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main")
