"""A workflow keeps a GPU over several jobs, whoever is killed meanwhile; in the end it is free."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import empty_place, server

from cicely import chain
from cicely.core.job import Filter
from cicely.core.outcome import MAX_CRASHES
from cicely.core.states import State
from cicely.engines.connect import connect
from cicely.testing.fleet import WorkerProcess, wait_for
from cicely.worker.options import WorkerOptions

HERE = Path(__file__).parent

#: The engines that keep something for workflows.
ENGINES = ["sqlite", "redis", "postgresql"]


class Place:
    """An empty engine, two workers with a GPU each, and the notes of what ran on which."""

    def __init__(self, folder: Path, url: str) -> None:
        import reserving_app

        self.folder = folder
        self.url = url
        self.notes = folder / "notes"
        self.jobs = reserving_app
        self.engine = connect(url, role="producer")
        self.engine.open()
        self.before = reserving_app.app.use(self.engine)
        self.workers: dict[str, WorkerProcess] = {}

    def start(self, gpu: str) -> None:
        """Start a worker with this GPU, and return when it has a child."""
        worker = WorkerProcess(
            WorkerOptions(
                target="reserving_app:app",
                url=self.url,
                python_path=(str(HERE),),
                lease_s=2.0,
                processes=1,
                name=f"with-{gpu}",
                offers={"gpu": {gpu: 1.0}},
            ),
            log=self.folder / f"worker-{gpu}.log",
            environment={"CICELY_NOTES": str(self.notes), "CICELY_URL": self.url},
        )
        self.workers[gpu] = worker
        worker.await_children(1)

    def noted(self, *begin: str) -> list[list[str]]:
        """Return the notes that begin so."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [line.split() for line in lines if line.split()[: len(begin)] == list(begin)]

    def at(self, *begin: str) -> float:
        """Return when the last of these notes was made."""
        return float(self.noted(*begin)[-1][-1])

    def foreign_on(self, gpu: str) -> list[float]:
        """Return when jobs of others began on this GPU."""
        return [float(at) for *_, at in self.noted("foreign", gpu)]

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.jobs.app.use(self.before)
        self.engine.close()


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    name = request.param
    url = f"sqlite:///{tmp_path}/jobs.db" if name == "sqlite" else empty_place(name, server(name))
    place = Place(tmp_path, url)
    for gpu in ("red", "blue"):
        place.start(gpu)
    yield place
    place.close()


def test_a_workflow_keeps_its_gpu_whoever_is_killed_and_in_the_end_it_is_free(place: Place) -> None:
    jobs = place.jobs
    rest = [jobs.think.si(0.4), jobs.step.si("first"), jobs.think.si(0.4), jobs.step.si("second")]
    last = chain(jobs.hold.si(), *rest, jobs.think.si(0.4), jobs.dies.si()).delay()
    jobs.foreign.delay_many([(0.05,)] * 400)

    wait_for(lambda: place.noted("begins", "first"), within_s=30, what="the first step")
    gpu = place.noted("held")[0][1]
    [other] = {"red", "blue"} - {gpu}
    [child] = place.workers[gpu].children()
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: place.noted("begins", "second"), within_s=30, what="the second step")
    killed_at = time.monotonic()
    place.workers[gpu].kill()
    wait_for(lambda: last.state == "failed", within_s=60, what="the end of the finaliser")

    # The child's attempt was run again where the workflow has its GPU, the worker's where there still is one.
    assert [of for _, _, of, _ in place.noted("begins", "first")] == [gpu, gpu]
    assert [of for _, _, of, _ in place.noted("begins", "second")] == [gpu, other]
    assert len(place.noted("dies")) == MAX_CRASHES
    _assert_that_nobody_else_had(place, gpu, since=place.at("held"), until=killed_at)
    _assert_that_nobody_else_had(place, other, since=place.at("ends", "second"), until=place.at("dies"))
    place.start(gpu)
    for free in (gpu, other):
        _assert_that_it_is_free(place, free)
    assert place.foreign_on(other)[0] < killed_at, "no job of others ran meanwhile"


def test_a_finaliser_gives_the_gpu_back(place: Place) -> None:
    jobs = place.jobs
    later = jobs.think.si(0.0).set(countdown=600)
    chain(jobs.hold.si(), jobs.think.si(0.4), jobs.release.si(), later).delay()
    jobs.foreign.delay_many([(0.05,)] * 100)

    wait_for(lambda: place.noted("released"), within_s=30, what="the release")
    gpu = place.noted("held")[0][1]

    _assert_that_nobody_else_had(place, gpu, since=place.at("held"), until=place.at("released"))
    _assert_that_it_is_free(place, gpu)


def _assert_that_nobody_else_had(place: Place, gpu: str, *, since: float, until: float) -> None:
    assert not [at for at in place.foreign_on(gpu) if since < at < until]


def _assert_that_it_is_free(place: Place, gpu: str) -> None:
    """Wait until a job of others has run on this GPU after all this, and look that nothing is reserved."""
    seen = len(place.foreign_on(gpu))

    def is_given() -> bool:
        # Where the other worker was faster: once more.
        if not place.engine.find(Filter(task="reserving_app.foreign", states=(State.READY,))).jobs:
            place.jobs.foreign.delay_many([(0.05,)] * 20)
        return len(place.foreign_on(gpu)) > seen

    wait_for(is_given, within_s=30, what=f"a job on {gpu}")
    around = place.engine.surroundings(place.jobs.foreign.delay(0.0).id)
    assert around is not None
    assert around.reserved == ()
