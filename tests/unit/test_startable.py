"""What scaling counts: of the jobs that wait, those that a further process could start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cicely.core.breaker import BreakerRule
from cicely.core.flow import Flow, Use
from cicely.core.job import Kind, NewJob, Page
from cicely.core.limits import Limit, Rate
from cicely.core.scaling import Backlog, Governor, ScaleRule
from cicely.core.states import State
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Engine, QueueRecord, Session
from cicely.engines.memory import MemoryEngine
from cicely.observe.backlog import backlog_at, backlog_of, processes_of, wanted_processes
from cicely.observe.startable import Alike, startable_of

RULE = ScaleRule(least=2, most=8)
API = Flow(uses=(Use("api"),))
GPU = Flow(resources=(("gpu", 1.0),))


class Fleet:
    """An engine, children that take jobs, and the wishes of those who scale."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._number = 0

    def add(self, count: int, flow: Flow | None = None, **options: Any) -> None:
        """Add jobs that wait."""
        first = {"task": "work", "kind": Kind.SYNC, "queue": "main", "flow": flow}
        self.engine.enqueue([NewJob(**{"id": f"j{self._next()}", **first, **options}) for _ in range(count)])

    def children(self, count: int, *, worker: str = "w", **options: Any) -> None:
        """Have so many more children, each with what it can take for one slot."""
        for _ in range(count):
            child = f"{worker}{self._next()}"
            first = {"id": child, "worker": worker, "tasks": frozenset({"work"}), "queues": ("main",)}
            self.engine.join(Session(**{**first, **options}))
            self.take(child)

    def take(self, child: str) -> None:
        """Claim a job for one slot."""
        request = self._next().to_bytes(8, "big")
        self.engine.claim(child, Demand(request, ("main",), (Ask((Kind.SYNC,), 1),)))

    def _next(self) -> int:
        self._number += 1
        return self._number

    def here(self, processes: int = 2) -> Backlog:
        """Return what waits for one more child of the worker w."""
        return backlog_at(self.engine, ["main"], worker="w", rule=RULE, processes=processes)

    def wanted(self) -> int:
        """Return how many processes all workers should have together."""
        rule = ScaleRule(least=0, most=1_000)
        children = processes_of(self.engine.sessions())
        return wanted_processes(backlog_of(self.engine), rule, processes=children)


@pytest.fixture(params=["memory", "sqlite"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    engine: Any = MemoryEngine()
    if request.param == "sqlite":
        engine = connect(f"sqlite:///{tmp_path}/jobs.db?durability=none", role="worker")
    engine.open()
    yield Fleet(engine)
    engine.close()


# --- what is left out ---------------------------------------------------------------------
def test_jobs_that_anybody_could_start_count(fleet: Fleet) -> None:
    fleet.children(2)
    fleet.add(100)

    assert fleet.here() == Backlog(100, startable=100, idle=2)
    assert fleet.wanted() == 10


def test_jobs_behind_a_full_limit_do_not_count_and_who_is_busy_stays(fleet: Fleet) -> None:
    fleet.engine.configure([Limit(key="api", concurrency=2)])
    fleet.add(102, API)
    fleet.children(3)

    assert fleet.here(3) == Backlog(0, held_back=100, startable=0, idle=1)
    assert fleet.wanted() == 2


def test_of_jobs_behind_a_limit_with_room_as_many_are_wanted_as_fit(fleet: Fleet) -> None:
    fleet.engine.configure([Limit(key="api", concurrency=5)])
    fleet.add(102, API)
    fleet.children(2)

    assert fleet.here() == Backlog(100, startable=3)
    assert fleet.wanted() == 5


def test_jobs_behind_an_empty_rate_do_not_count(fleet: Fleet) -> None:
    fleet.engine.configure([Limit(key="api", rate=Rate(1, 3600.0))])
    fleet.add(101, API)
    fleet.children(2)

    assert fleet.here() == Backlog(0, held_back=100, startable=0, idle=1)


def test_jobs_behind_an_open_breaker_do_not_count_also_where_no_worker_is_up(fleet: Fleet) -> None:
    fleet.engine.configure([BreakerRule("db")])
    fleet.engine.turn("db", "trip")
    fleet.add(100, Flow(breakers=("db",)))

    assert fleet.wanted() == 0
    fleet.children(2)
    assert fleet.here() == Backlog(0, held_back=100, startable=0, idle=2)
    assert fleet.wanted() == 0


def test_jobs_of_a_paused_queue_do_not_count(fleet: Fleet) -> None:
    fleet.children(2)
    fleet.add(100)
    fleet.engine.pause("main")

    assert (fleet.here().waiting, fleet.wanted()) == (0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"task": "other"},
        {"flow": GPU},
        {"flow": Flow(traits=("model=opus",))},
    ],
    ids=["a task", "a resource", "a tag"],
)
def test_jobs_that_no_worker_of_the_queue_could_run_do_not_count(
    fleet: Fleet, options: dict[str, Any]
) -> None:
    fleet.children(2, accepts={"model": ("sonnet",)})
    fleet.add(100, **options)

    assert (fleet.here().waiting, fleet.wanted()) == (0, 0)


def test_before_the_first_worker_of_a_queue_all_its_jobs_count(fleet: Fleet) -> None:
    fleet.add(100, GPU)

    assert fleet.wanted() == 10


def test_another_worker_brings_its_resources_and_another_child_does_not(fleet: Fleet) -> None:
    fleet.add(101, GPU)
    fleet.children(2, offers={"gpu": {"0": 1.0}})

    assert fleet.here() == Backlog(0, held_back=100, startable=0, idle=1)
    assert backlog_of(fleet.engine) == Backlog(100, startable=100, idle=1)


def test_what_another_worker_could_run_is_nothing_for_a_child_of_this_one(fleet: Fleet) -> None:
    fleet.children(2)
    fleet.children(1, worker="gpu", offers={"gpu": {"0": 1.0}})
    fleet.add(100, GPU)

    assert fleet.here() == Backlog(0, held_back=100, startable=0, idle=2)
    assert backlog_of(fleet.engine).waiting == 100


def test_of_a_mixture_those_that_can_start_count(fleet: Fleet) -> None:
    fleet.engine.configure([Limit(key="api", concurrency=1)])
    fleet.add(1, API)
    fleet.children(1)
    fleet.add(60, API)
    fleet.add(40, task="work")

    assert fleet.here() == Backlog(40, held_back=60, startable=40)


# --- more than is looked at ---------------------------------------------------------------
def test_of_many_those_that_are_seen_stand_for_all() -> None:
    queue = QueueRecord("main", paused=False, counts={State.READY: 10_000})

    found = startable_of([queue], [Alike("main", 150.0, 0.0), Alike("main", 50.0, 7.0)])

    assert (found.waiting, found.held_back, found.startable) == (2_500, 7_500, 7.0)


def test_where_none_that_is_seen_can_start_one_process_more_shows_what_the_others_are(fleet: Fleet) -> None:
    fleet.engine.configure([Limit(key="api", concurrency=2)])
    fleet.add(2, API)
    fleet.children(2)
    fleet.add(5_000, API)
    governor, processes, seen = Governor(RULE), 2, []

    for second in range(60):
        before = processes
        processes = governor.decide(fleet.here(processes), processes=processes, now=float(second))
        fleet.children(processes - before)
        seen.append(processes)

    assert set(seen) == {3}


def test_older_jobs_that_can_start_are_found_behind_newer_ones_that_cannot(fleet: Fleet) -> None:
    fleet.engine.configure([BreakerRule("db")])
    fleet.engine.turn("db", "trip")
    fleet.add(300)
    fleet.add(300, Flow(breakers=("db",)))
    fleet.children(2)
    governor, processes = Governor(RULE), 2

    for second in range(10):
        before = processes
        processes = governor.decide(fleet.here(processes), processes=processes, now=float(second))
        fleet.children(processes - before)

    assert processes == 8


def test_jobs_that_are_older_than_all_that_a_look_sees_want_one_process_more_than_is_busy() -> None:
    class ShortSighted(MemoryEngine):
        def find(self, *_: Any, **__: Any) -> Page:
            return Page((), "further on")

    fleet = Fleet(ShortSighted())
    fleet.engine.configure([Limit(key="api", concurrency=2)])
    fleet.add(102, API)

    assert fleet.wanted() == 1
    fleet.children(2)
    assert fleet.here() == Backlog(100, startable=1)
    assert fleet.wanted() == 3
    fleet.children(1)
    assert fleet.here(3) == Backlog(100, startable=1, idle=1)
    assert fleet.wanted() == 3


def test_a_look_asks_the_engine_a_bounded_number_of_times() -> None:
    class Counted(MemoryEngine):
        calls: list[str] = []  # noqa: RUF012

        def find(self, *given: Any, **options: Any) -> Any:
            self.calls.append("find")
            return super().find(*given, **options)

        def get(self, job_ids: Any) -> Any:
            self.calls.append(f"get {len(job_ids)}")
            return super().get(job_ids)

        def surroundings(self, job_id: str) -> Any:
            self.calls.append("surroundings")
            return super().surroundings(job_id)

    fleet = Fleet(Counted())
    for number in range(8):
        for task in range(20):
            fleet.add(3, Flow(uses=(Use(f"k{number}.{task}"),)), queue=f"q{number}", task=f"t{task}")

    backlog_of(fleet.engine)

    calls = Counted.calls
    assert [calls.count(call) for call in ("find", "get 50", "surroundings")] == [5, 1, 10]
    assert len(calls) == 16


def test_a_worker_that_has_as_many_as_it_may_and_all_busy_looks_at_no_job() -> None:
    class Blind(MemoryEngine):
        def find(self, *given: Any, **options: Any) -> Any:
            raise AssertionError

    fleet = Fleet(Blind())
    fleet.add(1_000)
    fleet.children(8)

    assert fleet.here(8) == Backlog(992)
