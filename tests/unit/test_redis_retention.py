"""Ended jobs go by their age and, with `keep_ended`, by their number; neither looks at all of them."""

import os
from collections.abc import Iterator

import pytest

from cicely.core.job import Filter, Kind, NewJob
from cicely.core.outcome import Failed, Outcome, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand, Session
from cicely.engines.redis.engine import RedisEngine
from cicely.engines.redis.place import place_of
from cicely.testing.clock import VirtualClock
from redis_server import shared_server

DAY_S = 86_400.0


class Shop:
    """An engine on a clock of its own, and a session that runs jobs."""

    def __init__(self, options: str = "") -> None:
        self.clock = VirtualClock()
        place = place_of(f"{shared_server().url}?durability=none{options}")
        self.engine = RedisEngine(place, now=self.clock.now)
        self.engine.open()
        self.engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))

    def end(
        self, *job_ids: str, how: type[Succeeded] | type[Failed] = Succeeded, keep_s: float = DAY_S
    ) -> None:
        new = [
            NewJob(
                id=job_id, task="work", kind=Kind.SYNC, queue="main", keep_s=keep_s, keep_failed_s=30 * DAY_S
            )
            for job_id in job_ids
        ]
        self.engine.enqueue(new)
        claims = self.engine.claim("s", demand(len(new))).claims
        outcomes: list[Outcome] = [
            Failed(claim.token, "broken", b"") if how is Failed else Succeeded(claim.token)
            for claim in claims
        ]
        self.engine.settle("s", outcomes)
        self.clock.advance(1.0)

    def left(self) -> list[str]:
        return sorted(job.id for job in self.engine.find(Filter()).jobs)

    def sweep(self, batch: int = 100) -> int:
        return self.engine.sweep(batch).deleted


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    yield
    shared_server().tell("FLUSHALL")


def test_without_a_bound_only_age_deletes() -> None:
    shop = Shop()
    shop.end("a", "b", "c")

    assert shop.sweep() == 0
    shop.clock.advance(DAY_S)
    assert shop.sweep() == 3


def test_beyond_the_bound_those_next_to_their_end_go_first() -> None:
    shop = Shop("&keep_ended=2")
    for job_id in "abcd":
        shop.end(job_id)

    assert shop.sweep() == 2
    assert shop.left() == ["c", "d"]
    assert shop.sweep() == 0


def test_failed_jobs_outlast_succeeded_ones_under_the_bound() -> None:
    shop = Shop("&keep_ended=1")
    shop.end("failed", how=Failed)
    shop.end("succeeded")

    shop.sweep()

    assert shop.left() == ["failed"]


def test_jobs_that_wait_or_run_do_not_count() -> None:
    shop = Shop("&keep_ended=1")
    shop.end("ended")
    shop.engine.enqueue(
        [NewJob(id=n, task="work", kind=Kind.SYNC, queue="main") for n in ("running", "ready")]
    )
    shop.engine.claim("s", demand(1))

    assert shop.sweep() == 0
    assert shop.left() == ["ended", "ready", "running"]


def test_one_call_deletes_no_more_than_its_batch() -> None:
    shop = Shop("&keep_ended=1")
    shop.end(*(f"j{n}" for n in range(10)))

    first = shop.engine.sweep(4)

    assert (first.deleted, first.more) == (4, True)
    assert [shop.sweep(4), shop.sweep(4), shop.sweep(4)] == [4, 1, 0]


def test_a_job_that_was_revived_goes_in_the_order_of_its_last_end() -> None:
    shop = Shop("&keep_ended=1")
    shop.end("a", how=Failed)
    shop.end("b", how=Failed)
    shop.engine.steer("revive", ["a"])
    [claim] = shop.engine.claim("s", demand(1)).claims
    shop.engine.settle("s", [Failed(claim.token, "broken", b"")])

    assert shop.sweep() == 1
    assert shop.left() == ["a"]
    assert shop.sweep() == 0


def test_the_number_of_ended_jobs_follows_discards_and_revivals() -> None:
    shop = Shop()
    shop.end("a", "b", "c", how=Failed)
    shop.engine.steer("revive", ["a"])
    shop.engine.steer("discard", ["b"])

    assert shared_server().tell("HGET", "{cicely}:meta", "ended").split(b"\r\n")[1] == b"1"
    assert shop.engine.queues()[0].counts == {State.READY: 1, State.FAILED: 1}


def demand(slots: int) -> Demand:
    return Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), slots),))
