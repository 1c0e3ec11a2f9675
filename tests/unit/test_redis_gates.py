"""What is held back is not looked at: a claim pays for what can move, whatever stands behind shut gates."""

import os
import re
from collections.abc import Iterator

import pytest

from cicely.core.flow import Flow, Use
from cicely.core.job import Claim, Kind, NewJob
from cicely.core.limits import Limit
from cicely.core.outcome import Succeeded
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Engine, Session
from redis_server import shared_server


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = connect(f"{shared_server().url}?durability=none")
    engine.open()
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    yield engine
    engine.close()
    shared_server().tell("FLUSHALL")


def job(job_id: str, *keys: str, lane: str = "") -> NewJob:
    flow = Flow(uses=tuple(Use(key) for key in keys)) if keys else None
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main", lane=lane, flow=flow)


def taken(engine: Engine, count: int = 1) -> list[str]:
    return [claim.job_id for claim in claims(engine, count)]


def claims(engine: Engine, count: int) -> tuple[Claim, ...]:
    return engine.claim("s", Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), count),))).claims


def commands() -> int:
    """Return how many commands the server has carried out, those of scripts among them."""
    said = shared_server().tell("INFO", "commandstats").decode()
    return sum(int(calls) for calls in re.findall(r"calls=(\d+)", said))


def cost_of_a_claim(engine: Engine) -> int:
    before = commands()
    engine.claim("s", Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 1),)))
    return commands() - before


def block(engine: Engine, keys: int) -> None:
    """Let one job of each of so many keys run, and another wait for it."""
    engine.configure([Limit(key=f"k{n}", concurrency=1) for n in range(keys)])
    engine.enqueue([job(f"runs{n}", f"k{n}", lane=f"l{n % 7}") for n in range(keys)])
    assert len(taken(engine, keys)) == keys
    engine.enqueue([job(f"waits{n}", f"k{n}", lane=f"l{n % 7}") for n in range(keys)])


def test_a_claim_beside_many_blocked_streams_costs_what_it_costs_beside_few(engine: Engine) -> None:
    block(engine, 3)
    assert taken(engine) == []
    few = cost_of_a_claim(engine)
    shared_server().tell("FLUSHALL")
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))

    block(engine, 300)
    assert taken(engine) == []

    assert cost_of_a_claim(engine) <= few


def test_streams_that_were_found_blocked_are_not_looked_at_again(engine: Engine) -> None:
    engine.configure([Limit(key="both", concurrency=1)])
    engine.enqueue([job("runs", "both")])
    assert taken(engine) == ["runs"]
    engine.enqueue([job(f"waits{n}", f"k{n}", "both") for n in range(40)])
    before = [cost_of_a_claim(engine) for _ in range(3)]

    assert before[2] <= before[0]
    assert taken(engine, 50) == []


def test_a_release_lets_the_best_of_many_go(engine: Engine) -> None:
    engine.configure([Limit(key="api", concurrency=1)])
    engine.enqueue([job(f"j{n:03}", "api", lane=f"l{n}") for n in range(100)])
    [claim] = claims(engine, 5)

    engine.settle("s", [Succeeded(claim.token)])

    assert (claim.job_id, taken(engine, 5)) == ("j000", ["j001"])


def test_nothing_is_left_of_streams_that_are_empty(engine: Engine) -> None:
    engine.configure([Limit(key="api", concurrency=500)])
    engine.enqueue([job(f"j{n}", "api", f"k{n}", lane=f"l{n}") for n in range(50)])

    for claim in claims(engine, 50):
        engine.settle("s", [Succeeded(claim.token)])

    kinds = {key.split(":")[1] for key in re.findall(r"\{cicely\}:[^\r]*", _keys())}
    assert not kinds & {
        "classes",
        "gates",
        "gate",
        "openings",
        "turns",
        "gated:",
        "stands",
        "mixed",
        "holders",
    }


def _keys() -> str:
    return shared_server().tell("KEYS", "*").decode()
