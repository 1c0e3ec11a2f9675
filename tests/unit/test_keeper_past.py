"""A worker's keeper tells the engine when it was up and when calls failed, and runs the hooks of its app."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from cicely.core.hook import Hook, encode
from cicely.core.job import Filter, Kind, NewJob
from cicely.core.outcome import Failed
from cicely.core.rollup import Word
from cicely.engines.contract import Ask, Demand, Session, Silent, Swept
from cicely.engines.memory import MemoryEngine
from cicely.errors import EngineUnavailable
from cicely.testing.fleet import wait_for
from cicely.worker import keeper as keeper_module
from cicely.worker.keeper import Keeper


class Faulty(MemoryEngine):
    """A memory engine that is out of reach for some sweeps."""

    faults = 0

    def sweep(self, batch: int, silent: tuple[Silent, ...] = ()) -> Swept:
        if self.faults:
            self.faults -= 1
            raise EngineUnavailable("out of reach")
        return super().sweep(batch, silent)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[MemoryEngine], Keeper]]:
    keepers: list[Keeper] = []

    def started(engine: MemoryEngine, report_s: float = 60.0) -> Keeper:
        monkeypatch.setattr(keeper_module, "REPORT_S", report_s)
        engine.join(Session(id="w1", worker="w1", lease_s=3.0))
        keepers.append(Keeper(engine, "w1", lease_s=3.0))
        keepers[0].start()
        return keepers[0]

    yield started
    for keeper in keepers:
        keeper.finish(timeout_s=5)


def counted(engine: MemoryEngine, word: Word) -> int:
    return sum(cell.count for cell in engine.rollups(0, 1 << 40).cells if cell.word is word)


def test_beats_are_reported(start):
    engine = MemoryEngine()
    start(engine, report_s=0.2)

    assert wait_for(lambda: counted(engine, Word.BEATS), within_s=5)


def test_what_a_worker_saw_is_reported_before_it_ends(start):
    engine = MemoryEngine()
    keeper = start(engine)
    wait_for(keeper.news, within_s=5)

    keeper.finish(timeout_s=5)

    assert counted(engine, Word.BEATS) == 1


def test_calls_that_failed_are_reported_when_the_engine_is_back(start):
    engine = Faulty()
    engine.faults = 2
    start(engine, report_s=0.2)

    assert wait_for(lambda: counted(engine, Word.ENGINE_ERRORS), within_s=10)


def test_hooks_are_run_within_a_second_or_two_of_a_failure(start):
    engine = MemoryEngine()
    keeper = start(engine)
    template = NewJob(id="", task="tell", kind=Kind.SYNC, queue="main")
    keeper.run_hooks([encode(Hook(name="tell", job=template))])
    wait_for(engine.schedules, within_s=5)
    engine.join(Session(id="s", worker="w1", tasks=frozenset({"work"})))
    engine.enqueue([NewJob(id="a", task="work", kind=Kind.SYNC, queue="main")])
    [claim] = engine.claim("s", Demand(b"request1", ("main",), (Ask((Kind.SYNC,), 1),))).claims
    engine.settle("s", [Failed(claim.token, "error")])
    began_at = time.monotonic()

    wait_for(lambda: engine.find(Filter(task="tell")).jobs, within_s=10)

    assert time.monotonic() - began_at < 5
