"""Workers and producers behind a bad network: every job runs once, and nobody is stuck."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import jobs_app
import pytest
from backends import NAMES, empty_place, server
from bounds import LENIENCY

from cicely.core.job import Job as Record
from cicely.engines.connect import connect
from cicely.patience import patiently
from cicely.testing.fleet import WorkerProcess, wait_for
from cicely.testing.ledger import Judgement, Ledger, judge
from cicely.testing.proxy import Loss, Proxy, proxy_before
from cicely.worker.options import WorkerOptions

PAGE = 200
#: How long a silent Redis is waited for; the default is 5 s.
IMPATIENCE = {"redis": "&timeout=0.5", "postgresql": "&tcp_user_timeout=1000&connect_timeout=2"}


class Scene:
    """A server, a proxy before it, a worker behind that, and a ledger."""

    def __init__(self, name: str, proxy: Proxy, place: str, folder: Path) -> None:
        self.proxy = proxy
        self.folder = folder
        self.behind = proxy.before(place) + IMPATIENCE[name]
        self.ledger = Ledger(folder / "ledger")
        self.shop = jobs_app.build(place)
        self.engine = connect(place)
        self.engine.open()
        self.workers: list[WorkerProcess] = []

    def start(self, *, lease_s: float) -> WorkerProcess:
        worker = WorkerProcess(
            WorkerOptions(
                url=self.behind,
                target="jobs_app:app",
                processes=2,
                lease_s=lease_s,
                python_path=(str(Path(__file__).parent),),
            ),
            log=self.folder / f"worker-{len(self.workers)}.log",
            environment={"CICELY_LEDGER": str(self.ledger.folder), "CICELY_URL": self.behind},
        )
        self.workers.append(worker)
        worker.await_children(2)
        return worker

    def records(self, ids: list[str]) -> dict[str, Record | None]:
        found: dict[str, Record | None] = {}
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            found |= dict(zip(page, self.engine.get(page), strict=True))
        return found

    def starts(self) -> int:
        return sum(1 for line in self.ledger.lines() if line.what == "start")

    def await_starts(self, count: int, *, within_s: float = 30.0) -> None:
        wait_for(lambda: self.starts() >= count, within_s=within_s, what=self.said())

    def said(self) -> str:
        return "\n".join(worker.said for worker in self.workers)

    def judged(self, ids: list[str], *, within_s: float = 30.0) -> Judgement:
        """Judge when every job has ended."""
        wait_for(
            lambda: all(record and record.state.is_final for record in self.records(ids).values()),
            within_s=within_s,
            what=self.said(),
        )
        return judge(self.ledger, attempted=len(ids), acknowledged=ids, jobs=self.records(ids))

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self.shop.app.close()
        self.engine.close()


@pytest.fixture(params=NAMES)
def scene(request: pytest.FixtureRequest, folder: Path) -> Iterator[Scene]:
    place = empty_place(request.param, server(request.param))
    proxy = proxy_before(place)
    assert proxy is not None
    with proxy:
        scene = Scene(request.param, proxy, place, folder)
        yield scene
        proxy.rejoin()
        scene.close()


def test_connections_that_are_reset_cost_no_job_and_run_none_twice(scene: Scene):
    ids = [job.id for job in scene.shop.quick.delay_many([(0.005,)] * 600)]
    scene.start(lease_s=5.0)

    for part in range(1, 16):
        scene.await_starts(30 * part)
        scene.proxy.reset()
    judgement = scene.judged(ids)

    assert judgement.is_clean, judgement
    assert judgement.re_runs == 0


def test_replies_that_are_lost_during_a_run_cost_no_job_and_run_none_twice(scene: Scene):
    ids = [job.id for job in scene.shop.quick.delay_many([(0.005,)] * 400)]
    scene.start(lease_s=5.0)

    for part in range(1, 20):
        scene.await_starts(15 * part)
        scene.proxy.lose_reply(part % 7 + 1)
    judgement = scene.judged(ids)

    assert scene.proxy.lost >= 10
    assert judgement.is_clean, judgement
    assert judgement.re_runs == 0


def test_connections_that_go_silent_are_given_up_and_run_no_job_twice(scene: Scene):
    ids = [job.id for job in scene.shop.quick.delay_many([(0.005,)] * 300)]
    scene.start(lease_s=20.0)

    for part in range(1, 4):
        scene.await_starts(60 * part)
        scene.proxy.silence()
    judgement = scene.judged(ids)

    assert judgement.is_clean, judgement
    assert judgement.re_runs == 0


def test_jobs_run_once_over_a_network_that_is_50_ms_away(scene: Scene):
    scene.proxy.latency_s = 0.025
    ids = [job.id for job in scene.shop.quick.delay_many([(0.001,)] * 20)]
    scene.start(lease_s=20.0)

    judgement = scene.judged(ids)

    assert judgement.is_clean, judgement
    assert judgement.re_runs == 0


@pytest.mark.parametrize("loss", Loss)
def test_a_producer_whose_replies_are_lost_enqueues_each_job_once(scene: Scene, loss: Loss):
    shop = jobs_app.build(scene.behind)
    ids = []

    for number in range(20):
        scene.proxy.lose_reply(number % 5 + 1, loss=loss)
        ids.append(shop.nothing.delay().id)
    scene.proxy.keep_replies()
    shop.app.close()

    assert scene.proxy.lost >= 3
    assert len({*ids}) == 20
    assert {record.state.value for record in scene.records(ids).values() if record} == {"ready"}
    assert sum(sum(queue.counts.values()) for queue in scene.engine.queues()) == 20


def test_a_call_to_a_server_that_went_silent_is_answered_on_another_connection(scene: Scene):
    engine = connect(scene.behind)
    engine.open()
    engine.queues()
    scene.proxy.silence()
    began_at = time.monotonic()

    queues = patiently(engine.queues, for_s=10.0)

    assert queues == []
    assert 0.4 < time.monotonic() - began_at < 3.0 * LENIENCY
    engine.close()
