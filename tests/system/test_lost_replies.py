"""A reply that is lost after the server did what was asked: nothing is done twice, and nothing is lost.

Each verb is asked through a proxy that loses the first reply, then the second, and so on, until the verb
needed no more replies than were let through. Invariants I2 (one accepted end), I3 and I7 (one id, one job).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from backends import NAMES, empty_place, server

from cicely.core.job import Claim, Kind, NewJob
from cicely.core.outcome import Failed, Succeeded
from cicely.core.states import State
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Engine, Save, Session, Verdict
from cicely.patience import patiently
from cicely.testing.proxy import Loss, Proxy, proxy_before

PATIENCE_S = 10.0
#: No verb has so many round trips.
MOST_REPLIES = 60


@dataclass
class Lane:
    """An engine behind a bad network, and one beside it that sees what the server has."""

    engine: Engine
    beside: Engine
    proxy: Proxy
    name: str = field(default_factory=lambda: os.urandom(4).hex())

    def ready(self, count: int) -> list[str]:
        """Enqueue jobs, out of harm's way."""
        ids = [f"{self.name}-{number}" for number in range(count)]
        self.beside.enqueue([job(job_id) for job_id in ids])
        return ids

    def claimed(self, count: int) -> tuple[Claim, ...]:
        self.ready(count)
        return self.beside.claim("s", demand(count)).claims

    def states(self, ids: list[str]) -> list[State]:
        return [found.state for found in self.beside.get(ids) if found is not None]


Check = Callable[[], None]
#: Prepares a lane, and returns the call whose replies are lost, and what must hold after it.
Verb = Callable[[Lane], tuple[Callable[[], object], Check]]


@pytest.fixture(scope="module", params=NAMES)
def proxied(request: pytest.FixtureRequest) -> Iterator[tuple[str, Proxy]]:
    place = empty_place(request.param, server(request.param))
    proxy = proxy_before(place)
    assert proxy is not None
    with proxy:
        yield place, proxy


@pytest.fixture
def lane(proxied: tuple[str, Proxy]) -> Iterator[Lane]:
    place, proxy = proxied
    beside, engine = connect(place), connect(proxy.before(place))
    for one in (beside, engine):
        one.open()
    beside.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    yield Lane(engine, beside, proxy)
    proxy.keep_replies()
    engine.close()
    for queue in beside.queues():
        left = beside.claim("s", demand(1000, queue.name)).claims
        beside.settle("s", [Succeeded(claim.token) for claim in left])
    beside.close()


def job(job_id: str, *, queue: str = "default") -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue=queue)


def demand(slots: int, queue: str = "default") -> Demand:
    return Demand(os.urandom(8), (queue,), (Ask((Kind.SYNC,), slots),))


# --- the verbs ----------------------------------------------------------------------------------
def enqueues_one(lane: Lane):
    wanted = job(lane.name)

    def check() -> None:
        assert lane.states([lane.name]) == [State.READY]
        assert len(lane.beside.claim("s", demand(9)).claims) == 1

    return lambda: lane.engine.enqueue([wanted]), check


def enqueues_a_page(lane: Lane):
    wanted = [job(f"{lane.name}-{number}") for number in range(60)]

    def check() -> None:
        assert len(lane.beside.claim("s", demand(99)).claims) == 60

    return lambda: lane.engine.enqueue(wanted), check


def enqueues_under_a_unique_key(lane: Lane):
    wanted = NewJob(id=lane.name, task="work", kind=Kind.SYNC, queue="default", unique=lane.name)
    answers = []

    def check() -> None:
        assert answers[-1][0].id == lane.name
        assert len(lane.beside.claim("s", demand(9)).claims) == 1

    return lambda: answers.append(lane.engine.enqueue([wanted])), check


def claims(lane: Lane):
    ids = lane.ready(5)
    wanted = demand(3)
    taken = []

    def check() -> None:
        tokens = [claim.token for claim in taken[-1]]
        assert lane.states(ids).count(State.RUNNING) == len(tokens) == 3
        verdicts = lane.beside.settle("s", [Succeeded(token) for token in tokens]).verdicts
        assert verdicts == (Verdict.ACCEPTED,) * 3

    return lambda: taken.append(lane.engine.claim("s", wanted).claims), check


def settles(lane: Lane):
    held = lane.claimed(3)
    outcomes = [Succeeded(held[0].token), Failed(held[1].token, "error"), Succeeded(held[2].token)]
    return _settling(lane, held, outcomes, None)


def settles_and_claims(lane: Lane):
    held = lane.claimed(4)
    more = NewJob(id=f"{lane.name}-more", task="work", kind=Kind.SYNC, queue="default")
    lane.beside.enqueue([more])
    return _settling(lane, held, [Succeeded(claim.token) for claim in held], demand(5))


def _settling(lane: Lane, held, outcomes, wanted):
    answers = []

    def check() -> None:
        verdicts = answers[-1].verdicts
        assert set(verdicts) <= {Verdict.ACCEPTED, Verdict.ALREADY}
        ended = [record for record in lane.beside.get([claim.job_id for claim in held]) if record is not None]
        assert all(record.state.is_final and len(record.attempts) == 1 for record in ended)
        assert len(answers[-1].intake.claims) == (wanted is not None)

    return lambda: answers.append(lane.engine.settle("s", outcomes, wanted)), check


def saves(lane: Lane):
    [claim] = lane.claimed(1)
    answers = []

    def check() -> None:
        assert answers[-1] == [True]
        [record] = lane.beside.get([claim.job_id])
        assert record is not None
        assert record.progress == b"1"

    return lambda: answers.append(lane.engine.save("s", [Save(claim.token, progress=b"1")])), check


def beats(lane: Lane):
    held = lane.claimed(2)
    answers = []

    def check() -> None:
        assert answers[-1][0].alive
        assert answers[-1][0].lost == ()
        assert lane.states([claim.job_id for claim in held]) == [State.RUNNING] * 2

    return lambda: answers.append(lane.engine.beat({"s": [claim.token for claim in held]}, 1)), check


def retires(lane: Lane):
    ids = lane.ready(2)
    lane.beside.join(Session(id=lane.name, worker=lane.name, tasks=frozenset({"work"})))
    held = lane.beside.claim(lane.name, demand(2)).claims

    def check() -> None:
        assert sorted(lane.states(ids)) == [State.READY, State.SUCCEEDED]
        assert lane.name not in {record.session.id for record in lane.beside.sessions()}

    return lambda: lane.engine.retire(lane.name, [Succeeded(held[0].token)]), check


def joins(lane: Lane):
    session = Session(id=lane.name, worker=lane.name, tasks=frozenset({"work"}))

    def check() -> None:
        assert [record.session.id for record in lane.beside.sessions()].count(lane.name) == 1
        lane.beside.retire(lane.name)

    return lambda: lane.engine.join(session), check


def cancels(lane: Lane):
    ids = lane.ready(3)

    def check() -> None:
        assert lane.states(ids) == [State.CANCELLED] * 3

    return lambda: lane.engine.steer("cancel", ids), check


def pauses(lane: Lane):
    def check() -> None:
        lane.ready(1)
        assert lane.beside.claim("s", demand(1)).claims == ()
        lane.beside.resume("default")

    return lambda: lane.engine.pause("default"), check


def sweeps(lane: Lane):
    ids = lane.ready(3)

    def check() -> None:
        assert lane.states(ids) == [State.READY] * 3

    return lambda: lane.engine.sweep(100), check


def puts_a_blob(lane: Lane):
    def check() -> None:
        assert lane.beside.get_blob(lane.name, "d") == b"x" * 100_000

    return lambda: lane.engine.put_blob(lane.name, "d", b"x" * 100_000), check


VERBS = (
    enqueues_one,
    enqueues_a_page,
    enqueues_under_a_unique_key,
    claims,
    settles,
    settles_and_claims,
    saves,
    beats,
    retires,
    joins,
    cancels,
    pauses,
    sweeps,
    puts_a_blob,
)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_a_lost_reply_does_nothing_twice_and_loses_nothing(lane: Lane, verb: Verb):
    lost_replies = 0
    for number in range(1, MOST_REPLIES):
        lane.name = os.urandom(4).hex()
        call, check = verb(lane)
        lost_before = lane.proxy.lost
        lane.proxy.lose_reply(number, loss=Loss.RESET)

        patiently(call, for_s=PATIENCE_S)

        has_lost = lane.proxy.lost > lost_before
        lane.proxy.keep_replies()
        check()
        drain(lane)
        if not has_lost:
            break
        lost_replies += 1
    assert 1 <= lost_replies < MOST_REPLIES - 1


def drain(lane: Lane) -> None:
    """End what is left, so that the next turn begins with nothing to claim."""
    while held := lane.beside.claim("s", demand(100)).claims:
        lane.beside.settle("s", [Succeeded(claim.token) for claim in held])
