"""What the conformance suite cannot see of workflows on Redis: bounds, what is left over, older data."""

import os
from collections.abc import Iterator

import pytest

from cicely.core.edge import Edge, Rule
from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Await, Failed, Outcome, Step, Succeeded, Suspended
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand, Session
from cicely.engines.redis.engine import RedisEngine
from cicely.engines.redis.place import place_of
from cicely.testing.clock import VirtualClock
from redis_server import shared_server

DAY_S = 86_400.0
MANY = 700
PER_CALL = 256
#: What stays of a namespace whose jobs are all gone.
LASTING = {"meta", "count", "sessions", "session", "tasks", "sent", "t", "roll", "rolls", "history"}


class Shop:
    """An engine on a clock of its own, and a session that runs jobs."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.engine = RedisEngine(place_of(f"{shared_server().url}?durability=none"), now=self.clock.now)
        self.engine.open()
        self.engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))

    def enqueue(self, names: list[str], *edges: Edge, workflow: str = "", held: bool = False) -> None:
        self.engine.enqueue([job(name, workflow, held=held) for name in names], edges)

    def end(self, *, slots: int = 1, how: type[Succeeded] | type[Failed] = Succeeded) -> list[str]:
        claims = self.engine.claim("s", demand(slots)).claims
        outcomes: list[Outcome] = [
            Failed(claim.token, "broken", b"why") if how is Failed else Succeeded(claim.token, b"done")
            for claim in claims
        ]
        self.engine.settle("s", outcomes)
        return [claim.job_id for claim in claims]

    def counts(self) -> dict[State, int]:
        return dict(self.engine.queues()[0].counts)

    def sweep_all(self) -> None:
        for _ in range(200):
            if not self.engine.sweep(100).more:
                return
        raise AssertionError("200 sweeps were not enough")


def job(name: str, workflow: str = "", *, held: bool = False) -> NewJob:
    return NewJob(
        id=name,
        task="work",
        kind=Kind.SYNC,
        queue="main",
        workflow=workflow,
        group=workflow and "g",
        held=held,
        keep_s=10.0,
        keep_failed_s=10.0,
    )


def demand(slots: int) -> Demand:
    return Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), slots=slots),))


def keys() -> set[str]:
    words = shared_server().tell("KEYS", "*").split(b"\r\n")
    return {word.decode().split(":")[1] for word in words if word.startswith(b"{")}


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.engine.close()
    shared_server().tell("FLUSHALL")


def fan_out(shop: Shop) -> list[str]:
    names = [f"n{n}" for n in range(MANY)]
    shop.enqueue(["a", *names], *(Edge("a", name) for name in names))
    return names


# --- bounded calls --------------------------------------------------------------------------------
def test_one_call_touches_a_bounded_number_of_jobs(shop: Shop) -> None:
    fan_out(shop)

    shop.end()

    assert shop.counts()[State.READY] == PER_CALL


def test_what_a_call_left_is_carried_out_by_later_claims(shop: Shop) -> None:
    fan_out(shop)
    shop.end()

    for _ in range(3):
        assert shop.engine.claim("s", demand(0)).next_due_in_s in (0.0, None)

    assert shop.counts() == {State.SUCCEEDED: 1, State.READY: MANY}
    assert shop.engine.claim("s", demand(0)).next_due_in_s is None


def test_what_was_left_of_an_end_is_undone_before_the_next_end(shop: Shop) -> None:
    fan_out(shop)
    shop.end(how=Failed)
    shop.engine.steer("revive", ["a"])
    shop.end()

    shop.sweep_all()

    assert shop.counts() == {State.SUCCEEDED: 1, State.READY: MANY}


def test_each_job_behind_a_large_end_runs_once(shop: Shop) -> None:
    names = fan_out(shop)
    ended = shop.end()
    while more := shop.end(slots=100):
        ended += more

    assert sorted(ended) == sorted(["a", *names])


# --- what is left over ----------------------------------------------------------------------------
def test_nothing_is_left_of_workflows_that_were_deleted(shop: Shop) -> None:
    chord = [f"m{n}" for n in range(300)]
    shop.enqueue(["z", *chord], *(Edge(name, "z") for name in chord), workflow="w", held=True)
    shop.enqueue(["x", "y", "q"], Edge("x", "y", cancels_siblings=True), Edge("q", "y", Rule.DONE))
    shop.engine.publish("w")
    shop.sweep_all()
    shop.end(how=Failed)
    while shop.end(slots=50):
        pass
    shop.enqueue(["e"])
    [claim] = shop.engine.claim("s", demand(1)).claims
    steps = (Step("one", b"1"),)
    edges = (Edge("nobody", "e", Rule.DONE),)
    shop.engine.settle("s", [Suspended(claim.token, steps, event=Await("go", "k", "wait"), edges=edges)])
    shop.engine.signal("e1", "go", "k", b"")
    shop.end()

    for _ in range(6):
        shop.clock.advance(DAY_S)
        shop.sweep_all()

    assert keys() - LASTING == set()
    assert shop.counts() == {}


def test_a_plain_job_has_nothing_of_a_workflow(shop: Shop) -> None:
    shop.enqueue(["a"])
    shop.end()

    assert keys().isdisjoint({"w", "in", "out", "of", "workflows", "intents", "s", "gone"})


def test_a_job_whose_parents_record_was_damaged_is_cancelled(shop: Shop) -> None:
    shop.enqueue(["a", "b"], Edge("a", "b"))
    shared_server().tell("SET", "{cicely}:j:000000000001", "nonsense")

    shop.engine.claim("s", demand(1))

    [found] = shop.engine.get(["b"])
    assert found is not None
    assert found.state is State.CANCELLED


# --- older data -----------------------------------------------------------------------------------
def test_a_namespace_of_the_first_format_goes_on(shop: Shop) -> None:
    shop.enqueue(["a", "b"])
    shared_server().tell("HSET", "{cicely}:meta", "format", "1")
    shop.engine.close()

    later = Shop()
    later.enqueue(["c"], Edge("a", "c"), Edge("b", "c"))
    later.end(slots=2)

    assert later.end() == ["c"]
    assert b"3" in shared_server().tell("HGET", "{cicely}:meta", "format")
