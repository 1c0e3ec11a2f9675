"""A namespace of an older format opens, and what it held goes on."""

import os
import socket
from collections.abc import Iterator

import pytest

from cicely.core.job import Claim, Kind, NewJob
from cicely.core.outcome import Failed, Succeeded
from cicely.core.states import State
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Engine, Session
from redis_server import shared_server

NS = "{cicely}:"


def tell(*words: str | bytes) -> bytes:
    """Send a command of any bytes, and return what it answers."""
    raw = [word if isinstance(word, bytes) else word.encode() for word in words]
    with socket.create_connection(("127.0.0.1", shared_server().port), 5) as line:
        line.sendall(b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw))
        reply = line.recv(65_536)
    assert not reply.startswith(b"-"), reply
    return reply.split(b"\r\n", 1)[1][:-2]


def opened() -> Engine:
    engine = connect(f"{shared_server().url}?durability=none")
    engine.open()
    return engine


def job(job_id: str, **options: object) -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main", body=b"body", **options)


def taken(engine: Engine, count: int) -> list[Claim]:
    return list(engine.claim("s", Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), count),))).claims)


def stand_as_in_format_2(n: int, lane: str) -> None:
    """Let a plain ready job stand where format 2 kept those with a lane."""
    number = f"{n:012d}"
    record = tell("GET", f"{NS}j:{number}")
    # Its lane follows its task in the card.
    with_lane = record.replace(b"\xa4work\xa0", b"\xa4work" + bytes([0xA0 + len(lane)]) + lane.encode(), 1)
    assert with_lane != record
    tell("SET", f"{NS}j:{number}", with_lane)
    tell("ZREM", f"{NS}ready:main|sync:work|", number)
    tell("ZADD", f"{NS}ready:main|sync:work|{lane}", str(n), number)
    tell("ZADD", f"{NS}lanes:main|sync:work", str(n), lane)


@pytest.fixture
def older() -> Iterator[Engine]:
    """What format 2 left: nine ready jobs, the last six of them in two lanes."""
    engine = opened()
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    engine.enqueue([job(f"j{n}") for n in range(9)])
    for n in range(4, 10):
        stand_as_in_format_2(n, "ab"[n % 2])
    tell("HSET", f"{NS}meta", "format", "2")
    engine.close()
    yield opened()
    shared_server().tell("FLUSHALL")


def test_ready_jobs_with_a_lane_are_handed_out_by_turns(older: Engine) -> None:
    assert [claim.job_id for claim in taken(older, 9)] == [
        "j0",
        "j3",
        "j4",
        "j1",
        "j5",
        "j6",
        "j2",
        "j7",
        "j8",
    ]


def test_they_show_their_lanes_and_end_as_any(older: Engine) -> None:
    for claim in taken(older, 9):
        older.settle("s", [Succeeded(claim.token)])

    jobs = older.get([f"j{n}" for n in range(9)])

    assert [found.lane for found in jobs if found] == ["", "", "", "a", "b", "a", "b", "a", "b"]
    assert {found.state for found in jobs if found} == {State.SUCCEEDED}


def test_the_format_is_the_new_one(older: Engine) -> None:
    assert tell("HGET", f"{NS}meta", "format") == b"3"


def test_a_claim_of_format_2_is_settled(older: Engine) -> None:
    [claim] = taken(older, 1)
    run = tell("HGET", f"{NS}runs", "000000000001")
    # It ended with the unique key of the job: its task came later.
    tell("HSET", f"{NS}runs", "000000000001", run[: run.rindex(b"\xa4work")])

    older.settle("s", [Failed(claim.token, "error")])

    [found] = older.get(["j0"])
    assert found is not None
    assert found.state is State.FAILED
    assert [(cell.task, cell.queue) for cell in older.rollups(0, 1 << 40).cells if cell.word == "failed"] == [
        ("work", "main"),
        ("work", "main"),
    ]
