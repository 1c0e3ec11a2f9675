"""Flow control by real workers: GPUs beside plain work, a budget of tokens, and children by the backlog."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import empty_place, server
from bounds import LENIENCY

from cicely.core.breaker import BreakerRule
from cicely.engines.connect import connect
from cicely.testing.fleet import WorkerProcess, wait_for
from cicely.testing.trial.run import Plan, run
from cicely.worker.options import WorkerOptions

HERE = Path(__file__).parent


#: The engines that control the flow.
ENGINES = ["sqlite", "redis", "postgresql"]


class Place:
    """An empty engine, its workers, and the notes of what ran."""

    def __init__(self, folder: Path, url: str) -> None:
        import flow_app

        self.folder = folder
        self.url = url
        self.notes = folder / "notes"
        self.workers: list[WorkerProcess] = []
        self.jobs = flow_app
        engine = connect(self.url, role="producer")
        engine.open()
        self.before = flow_app.app.use(engine)
        self.engine = engine
        engine.configure(flow_app.app.declared_settings())

    def start(self, **options: object) -> WorkerProcess:
        worker = WorkerProcess(
            WorkerOptions(
                target="flow_app:app",
                url=self.url,
                python_path=(str(HERE),),
                lease_s=2.0,
                **options,  # type: ignore[arg-type]
            ),
            log=self.folder / f"worker-{len(self.workers)}.log",
            environment={"CICELY_NOTES": str(self.notes), "CICELY_URL": self.url},
        )
        self.workers.append(worker)
        return worker

    def noted(self, word: str) -> list[list[str]]:
        if not self.notes.exists():
            return []
        return [line.split()[1:] for line in self.notes.read_text().splitlines() if line.split()[0] == word]

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self.jobs.app.use(self.before)
        self.engine.close()


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    name = request.param
    return f"sqlite:///{tmp_path}/jobs.db" if name == "sqlite" else empty_place(name, server(name))


@pytest.fixture
def place(tmp_path: Path, url: str) -> Iterator[Place]:
    place = Place(tmp_path, url)
    yield place
    place.close()


def test_cpu_jobs_do_not_wait_for_gpu_jobs_and_each_gpu_job_runs_when_the_gpu_is_free(place: Place) -> None:
    gpu = place.jobs.on_gpu.delay_many([("a", 2.0), ("b", 0.1)])
    cpu = place.jobs.on_cpu.delay_many([(n,) for n in range(1000)])
    place.start(processes=2, name="with-gpu", offers={"gpu": {"0": 1.0}})
    place.start(processes=1, name="without")

    assert [job.get(timeout=60) for job in gpu] == [["0"], ["0"]]
    assert [job.get(timeout=60) for job in cpu] == list(range(1000))
    starts = {name: float(at) for name, at, _ in place.noted("gpu-start")}
    ends = {name: float(at) for name, at in place.noted("gpu-end")}
    first, second = sorted(starts, key=starts.__getitem__)
    assert {devices for _, _, devices in place.noted("gpu-start")} == {"0"}
    # The second one had waited for the device, and nothing else.
    assert 0 <= starts[second] - ends[first] < 0.5 * LENIENCY
    if first == "a":
        # A thousand CPU jobs went past while the GPU was taken.
        assert max(float(at) for _, at in place.noted("cpu")) < ends["a"] + 0.5 * LENIENCY


def test_a_job_that_no_worker_can_hold_is_accepted_and_explained(place: Place) -> None:
    job = place.jobs.on_gpu.options(resources={"gpu": 4}).delay("big", 0.0)
    place.start(processes=1, offers={"gpu": {"0": 1.0, "1": 1.0}}).await_children(1)
    wait_for(lambda: job.explain().reason == "too large", within_s=10, what=str(job.explain()))
    assert job.state == "ready"


def test_a_limit_holds_across_workers_and_through_kills(place: Place) -> None:
    workers = [place.start(processes=2) for _ in range(2)]
    jobs = place.jobs.through_the_gate.delay_many([(n, 0.05) for n in range(60)])
    victims = [worker.await_children(2) for worker in workers]
    wait_for(lambda: len(place.noted("in")) > 10, within_s=20)
    for pids in victims:
        os.kill(pids[0], 9)
    assert [job.get(timeout=60) for job in jobs] == list(range(60))
    assert _most_at_once(place) <= 3
    [record] = [one for one in place.engine.settings("limit") if one.setting.key == "gate"]  # type: ignore[union-attr]
    assert record.held == 0


def _most_at_once(place: Place) -> int:
    """Return how many were inside at the same time; one whose process died was out when that died."""
    outs = {(n, pid): float(at) for n, at, pid in place.noted("out")}
    spans = [(float(at), outs[n, pid]) for n, at, pid in place.noted("in") if (n, pid) in outs]
    return max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)


def test_a_breaker_that_is_tripped_by_hand_holds_everybody_back(place: Place) -> None:
    place.engine.configure([BreakerRule("executor")])
    place.start(processes=1).await_children(1)
    job = place.jobs.on_cpu.options(breaker=_executor()).delay(1)
    assert job.get(timeout=20) == 1
    place.engine.turn("executor", "trip")
    job = place.jobs.on_cpu.options(breaker=_executor()).delay(2)
    assert job.explain().reason == "breaker"
    place.engine.turn("executor", "reset")
    assert job.get(timeout=20) == 2


def _executor() -> object:
    from cicely import Breaker

    return Breaker("executor")


# It is the worker that decides, and it decides slowly: once is enough.
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_children_come_with_the_backlog_and_go_when_it_is_gone(place: Place) -> None:
    worker = place.start(processes=1, most_processes=4)
    worker.await_children(1)
    jobs = place.jobs.through_the_gate.options(limits=()).delay_many([(n, 0.02) for n in range(400)])
    worker.await_children(4)
    assert [job.get(timeout=60) for job in jobs] == list(range(400))
    wait_for(lambda: len(worker.children()) == 1, within_s=40, what=worker.said)
    assert "from 1 to 4 child processes" in worker.said


def test_a_budget_of_tokens_is_used_and_not_exceeded(tmp_path: Path, url: str) -> None:
    plan = Plan(
        url=url,
        processes=6,
        tokens=2_000,
        period_s=4.0,
        estimate=25,
        latency_s=0.1,
        seconds=10.0,
    )
    result = run(plan, tmp_path)
    # How much of the budget is used depends on the machine; `python -m cicely.testing.trial` judges that.
    assert result.refused_share < 0.02, result
    assert result.second_user_waited_s < 5.0 * LENIENCY
