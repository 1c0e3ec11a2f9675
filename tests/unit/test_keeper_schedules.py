"""A worker's keeper ticks schedules: at their instants, and without spinning on one it cannot read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from cicely.core.job import Filter, Kind, NewJob
from cicely.core.schedule import FROM_NOW, CatchUp, Plan, encode
from cicely.core.when import every
from cicely.engines.contract import Schedule, Session, Silent, Swept
from cicely.engines.memory import MemoryEngine
from cicely.testing.fleet import wait_for
from cicely.worker.keeper import Keeper
from cicely.worker.processes import start_time, this_host

LEASE_S = 30.0
#: On an idle machine a tick is dealt with within milliseconds; this one runs tests.
LATE_S = 1.0


class Counting(MemoryEngine):
    """A memory engine that counts its sweeps."""

    def __init__(self) -> None:
        super().__init__()
        self.sweeps = 0

    def sweep(self, batch: int, silent: tuple[Silent, ...] = ()) -> Swept:
        self.sweeps += 1
        return super().sweep(batch, silent)


@pytest.fixture
def start() -> Iterator[Callable[[MemoryEngine], Keeper]]:
    keepers: list[Keeper] = []

    def started(engine: MemoryEngine) -> Keeper:
        host = this_host()
        pid = os.getpid()
        session = Session(
            id="w1", worker="w1", lease_s=LEASE_S, host=host, pid=pid, start_time=start_time(pid) or 0
        )
        engine.join(session)
        keepers.append(Keeper(engine, "w1", lease_s=LEASE_S))
        keepers[0].start()
        return keepers[0]

    yield started
    keepers[0].finish(timeout_s=5)


def put(engine: MemoryEngine, name: str = "s") -> None:
    job = NewJob(id="", task="work", kind=Kind.SYNC, queue="main")
    engine.put_schedule(Schedule(name=name, spec=encode(Plan(when=every("1s"), job=job)), next_at=FROM_NOW))


def test_ticks_make_jobs_within_a_second_of_their_instants(start):
    engine = MemoryEngine()
    put(engine)
    start(engine)

    jobs = wait_for(
        lambda: found if len(found := engine.find(Filter()).jobs) >= 2 else (), within_s=10, what="two ticks"
    )

    late_s = [job.created_at - datetime.fromisoformat(job.id.removeprefix("s@")).timestamp() for job in jobs]
    assert all(0 <= late < LATE_S for late in late_s)
    assert len({job.id for job in jobs}) == len(jobs)


def test_a_long_backlog_is_caught_up_with_at_once(start):
    engine = MemoryEngine()
    job = NewJob(id="", task="work", kind=Kind.SYNC, queue="main")
    plan = Plan(when=every("1s"), job=job, catch_up=CatchUp.ALL)
    engine.put_schedule(Schedule(name="s", spec=encode(plan), next_at=float(int(time.time()) - 2_000)))
    start(engine)

    # Twenty pages, and a keeper that has nothing to do looks once per second.
    assert wait_for(lambda: engine.schedules()[0].next_at > time.time(), within_s=10)


def test_a_schedule_added_while_a_worker_is_idle_is_found(start):
    engine = MemoryEngine()
    start(engine)
    wait_for(engine.sessions, within_s=5)

    put(engine)

    assert wait_for(lambda: engine.find(Filter()).jobs, within_s=10)


def test_one_that_cannot_be_read_does_not_keep_the_worker_busy(start):
    engine = Counting()
    engine.put_schedule(Schedule(name="newer", spec=b"\x09", next_at=FROM_NOW))
    put(engine, "readable")
    start(engine)

    wait_for(lambda: len(engine.find(Filter()).jobs) >= 2, within_s=10)

    # Each tick is a sweep and another look; the one that stays due adds a sweep per second.
    assert engine.sweeps < 20
