"""Servers are killed, and children and supervisors with them: nothing is lost or accepted twice.

`make torture` does the same with ten times as many kills. Invariants I1 to I7.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import jobs_app
import pytest
from backends import NAMES, Server, empty_place, started

from cicely.core.states import State
from cicely.engines.connect import connect
from cicely.testing.fleet import WorkerProcess, wait_for
from cicely.testing.ledger import Ledger, judge
from cicely.testing.torture import Campaign
from cicely.worker.options import WorkerOptions

SEED = int(os.environ.get("CICELY_SEED", "0")) or random.SystemRandom().randrange(1 << 31)
LEASE_S = 30.0
CHILD_KILLS = 20
SUPERVISOR_KILLS = 2
#: The torture draws them from 0 to 10 s.
OUTAGES_S = (0.3, 3.5)
LONG_S = 1.5


@pytest.fixture(params=NAMES)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Server, str]]:
    server = started(request.param)
    try:
        yield server, empty_place(request.param, server)
    finally:
        server.destroy()


@pytest.mark.timeout(110)
def test_a_job_that_ends_while_the_server_is_dead_settles_when_it_is_back(
    server: tuple[Server, str], folder: Path
):
    running, place = server
    ledger = Ledger(folder / "ledger")
    shop = jobs_app.build(place)
    worker = WorkerProcess(
        WorkerOptions(
            url=place,
            target="jobs_app:app",
            processes=2,
            lease_s=LEASE_S,
            python_path=(str(Path(__file__).parent),),
        ),
        log=folder / "worker.log",
        environment={"CICELY_LEDGER": str(ledger.folder), "CICELY_URL": place},
    )
    try:
        children = worker.await_children(2)
        long = [shop.naps_async.delay(LONG_S) for _ in range(10)]
        short = shop.quick.delay_many([(0.01,)] * 100)
        wait_for(lambda: count(ledger, "start", long) == 10, within_s=20, what=worker.said)
        running.kill()
        time.sleep(LONG_S)
        wait_for(lambda: count(ledger, "end", long) == 10, within_s=20, what=worker.said)
        running.start()
        after = shop.quick.delay(0.0)
        ids = [job.id for job in (*long, *short, after)]
        engine = connect(place)
        wait_for(
            lambda: all(record and record.state.is_final for record in engine.get(ids)),
            within_s=30,
            what=worker.said,
        )
        assert worker.await_children(2) == children
    finally:
        worker.close()
        shop.app.close()

    records = dict(zip(ids, engine.get(ids), strict=True))
    engine.close()
    judgement = judge(ledger, attempted=len(ids), acknowledged=ids, jobs=records)
    assert judgement.is_clean, judgement
    assert judgement.re_runs == 0
    assert {record.state for record in records.values() if record} == {State.SUCCEEDED}


def count(ledger: Ledger, what: str, jobs: list) -> int:
    ids = {job.id for job in jobs}
    return sum(1 for line in ledger.lines() if line.what == what and line.job_id in ids)


@pytest.mark.timeout(110)
def test_killed_servers_children_and_supervisors_lose_nothing_and_overlap_nowhere(
    server: tuple[Server, str],
):
    running, place = server
    draw = random.Random(SEED)
    with Campaign(place, seed=SEED, lease_s=LEASE_S, server=running) as campaign:
        saboteur = campaign.saboteur
        campaign.start_producer(per_second=100)
        while (killed := saboteur.counts["child killed"]) < CHILD_KILLS:
            if killed % 10 == 4 and saboteur.counts["server killed"] <= killed // 10:
                saboteur.kill_server(OUTAGES_S[killed // 10])
            if killed % 10 == 9 and saboteur.counts["supervisor killed"] <= killed // 10:
                saboteur.kill_supervisor()
            saboteur.kill_child()
            let_go_on(campaign, draw.uniform(0.05, 0.5))
        while saboteur.is_server_down:
            let_go_on(campaign, 0.1)
        campaign.end_producers()
        still_moving = campaign.await_rest(within_s=60)
        campaign.take_stock(within_s=30)
        campaign.stop_workers()
        report = campaign.report(still_moving=still_moving)

    print("\n".join(report.lines()))
    assert report.is_clean, [*report.lines(), f"see {campaign.folder}"]
    assert report.faults == {
        "child killed": CHILD_KILLS,
        "supervisor killed": SUPERVISOR_KILLS,
        "server killed": len(OUTAGES_S),
    }
    assert report.re_runs_per_fault < 20
    shutil.rmtree(campaign.folder)


def let_go_on(campaign: Campaign, seconds: float) -> None:
    over_at = time.monotonic() + seconds
    while time.monotonic() < over_at:
        campaign.saboteur.relent()
        campaign.replace_the_ended()
        time.sleep(0.02)
