"""Random kills, judged by the ledger. `cicely torture` does the same for longer, and worse.

Invariants I1 to I7, I11 and I12: see `docs/reliability.md` for which figure of the report stands for which.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from cicely.core.flow import Flow, Use
from cicely.core.job import Kind, NewJob
from cicely.core.limits import Limit
from cicely.engines.contract import Ask, Demand, Session
from cicely.testing import torture
from cicely.testing.fleet import wait_for
from cicely.testing.ledger import Crowd, crowds
from cicely.testing.torture import Campaign, Wanted
from cicely.testing.torture.crowding import AT_THE_GATE
from cicely.testing.torture.producer import CROWD

SEED = int(os.environ.get("CICELY_SEED", "0")) or random.SystemRandom().randrange(1 << 31)
CHILD_KILLS = 20
SUPERVISOR_KILLS = 2
FEW = Crowd(0, 0, 0)


@pytest.mark.timeout(110)
def test_killed_children_and_supervisors_lose_nothing_and_overlap_nowhere(tmp_path):
    draw = random.Random(SEED)
    with Campaign(f"sqlite:///{tmp_path}/jobs.db", seed=SEED) as campaign:
        campaign.start_producer(per_second=100)
        for number in range(CHILD_KILLS + SUPERVISOR_KILLS):
            time.sleep(draw.uniform(0.05, 0.5))
            if number % (CHILD_KILLS // SUPERVISOR_KILLS + 1) == CHILD_KILLS // SUPERVISOR_KILLS:
                campaign.saboteur.kill_supervisor()
            else:
                campaign.saboteur.kill_child()
        campaign.end_producers()
        still_moving = campaign.await_rest(within_s=60)
        campaign.take_stock(within_s=30)
        campaign.stop_workers()
        report = campaign.report(still_moving=still_moving)

    print("\n".join(report.lines()))
    assert report.is_clean, report.lines()
    assert report.faults == {"child killed": CHILD_KILLS, "supervisor killed": SUPERVISOR_KILLS}
    # Each kill may cost what had been started in the killed processes: their threads and coroutines.
    assert report.re_runs_per_fault < 20
    assert report.crowding.entered >= CROWD
    assert report.crowding.at_once == AT_THE_GATE


@pytest.mark.timeout(110)
def test_a_limit_that_is_not_kept_and_one_that_stays_held_are_found_out(tmp_path):
    with Campaign(f"sqlite:///{tmp_path}/jobs.db", seed=SEED) as campaign:
        # The ledger goes by what the code says.
        campaign.engine.configure([Limit(key=campaign.gate, concurrency=50)])
        campaign.start_producer(per_second=100)
        keep_for_ever(campaign)
        wait_for(lambda: crowds(campaign.ledger.lines()).get(campaign.gate, FEW).beyond, within_s=60)
        campaign.end_producers()
        still_moving = campaign.await_rest(within_s=60)
        campaign.take_stock(within_s=1)
        campaign.stop_workers()
        report = campaign.report(still_moving=still_moving)

    assert report.judgement.is_clean
    assert report.crowding.beyond > 0
    assert report.crowding.leaked == 1
    assert not report.is_clean
    lines = [line.split() for line in report.lines()]
    assert ["held", "or", "taken", "when", "all", "had", "ended", "1", "must", "be", "0"] in lines


def keep_for_ever(campaign):
    """Claim a job under the limit, and never say how it ended."""
    name = "lost.work"
    use = Flow(uses=(Use(campaign.gate),))
    campaign.engine.enqueue([NewJob(id=name, task=name, kind=Kind.SYNC, queue="lost", flow=use)])
    lost = Session(id="lost", worker="lost", tasks=frozenset({name}), queues=("lost",), lease_s=3600.0)
    campaign.engine.join(lost)
    demand = Demand(b"12345678", ("lost",), (Ask((Kind.SYNC,), 1),))
    [_] = campaign.engine.claim("lost", demand).claims


@pytest.mark.timeout(110)
def test_of_10_000_jobs_none_runs_again_while_nothing_is_done_to_anybody(tmp_path):
    with Campaign(f"sqlite:///{tmp_path}/jobs.db", seed=SEED) as campaign:
        campaign.run_idle(10_000, within_s=90)
        campaign.stop_workers()
        report = campaign.report(still_moving=0)

    assert report.is_clean, report.lines()
    assert report.idle_re_runs == 0
    assert report.judgement.started == 10_000


@pytest.mark.timeout(110)
def test_a_short_torture_keeps_every_promise(tmp_path):
    said = []

    report = torture.run(
        f"sqlite:///{tmp_path}/jobs.db", Wanted(seconds=9, idle_jobs=0), seed=SEED, announce=said.append
    )

    assert report.is_clean, [*said, *report.lines()]
    assert sum(report.faults.values()) > 10
    assert report.as_dict()["is_clean"] is True
