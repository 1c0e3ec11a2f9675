"""A record that somebody edited by hand ends as failed and stands in nobody's way."""

import os
from collections.abc import Iterator

import pytest

from cicely.core.job import Filter, Kind, NewJob
from cicely.core.states import State
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Engine, Session
from redis_server import shared_server

FIRST = "{cicely}:j:000000000001"


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Two ready jobs, and a session that can run them."""
    engine = connect(f"{shared_server().url}?durability=none")
    engine.open()
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    jobs = [NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main", body=b"body") for job_id in "ab"]
    engine.enqueue(jobs)
    yield engine
    engine.close()
    shared_server().tell("FLUSHALL")


def damage(*words: str) -> None:
    assert not shared_server().tell(*words).startswith(b"-")


@pytest.mark.parametrize(
    "words",
    [
        ("SET", FIRST, "garbage"),
        ("SET", FIRST, ""),
        ("DEL", FIRST),
        ("SETRANGE", FIRST, "4", "xxxx"),
        ("SETRANGE", FIRST, "40", "xxxxxxxx"),
        ("APPEND", FIRST, "x"),
    ],
    ids=" ".join,
)
def test_a_damaged_record_ends_as_failed_and_the_next_job_is_handed_out(
    engine: Engine, words: tuple[str, ...]
) -> None:
    damage(*words)

    claims = engine.claim("s", Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 5),))).claims

    assert [claim.job_id for claim in claims] == ["b"]
    assert engine.queues()[0].counts == {State.RUNNING: 1, State.FAILED: 1}
    [shown] = engine.find(Filter(states=(State.FAILED,))).jobs
    assert shown.reason == "malformed"


def test_a_damaged_record_is_shown(engine: Engine) -> None:
    damage("SET", FIRST, "garbage")

    found = engine.find(Filter()).jobs
    [got] = engine.get(["a"])

    assert [job.id for job in found] == ["b", "damaged-000000000001"]
    assert got is not None
    assert (got.state, got.reason) == (State.FAILED, "malformed")
