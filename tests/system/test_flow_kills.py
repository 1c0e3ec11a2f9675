"""Invariant I11 with real processes: eight claim at once, any may be killed, and no limit is exceeded."""

from __future__ import annotations

import os
import random
import time

import pytest
from bounds import IS_FULL
from flow_crew import LIMITS, OFFERS, Crew, opened

from cicely.core.job import Kind
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand, Engine, Session

SEED = int(os.environ.get("CICELY_SEED", "0")) or random.SystemRandom().randrange(1 << 31)
MEMBERS = 8
KILLS = 500 if IS_FULL else 60
LEAST_KILLS = KILLS // 4
#: The kills end here, once there were the least: a busy machine has fewer.
WITHIN_S = 200.0 if IS_FULL else 10.0


@pytest.mark.timeout(280 if IS_FULL else 90)
def test_i11_no_limit_is_exceeded_or_leaked_whoever_is_killed(tmp_path):
    crew = Crew(f"sqlite:///{tmp_path}/jobs.db?durability=process", tmp_path, random.Random(SEED))
    crew.prepare()
    crew.send(200)
    for _ in range(MEMBERS):
        crew.hire()

    kills = kill_some(crew)
    endings = crew.dismiss()

    print(f"seed {SEED}: {kills} kills, {crew.jobs} jobs")
    assert crew.excesses() == []
    assert endings == [0] * MEMBERS
    assert kills >= LEAST_KILLS
    with opened(crew.url) as engine:
        assert held(engine) == dict.fromkeys(LIMITS, 0)
        assert engine.sessions() == []
        assert_that_all_can_run(engine, crew)


def kill_some(crew: Crew) -> int:
    until = time.monotonic() + WITHIN_S
    for number in range(KILLS):
        if number >= LEAST_KILLS and time.monotonic() > until:
            return number
        time.sleep(crew.draw.uniform(0.0, 0.15))
        crew.kill()
        crew.hire()
        crew.send(10)
    return KILLS


def held(engine: Engine) -> dict[str, int]:
    return {record.setting.key: record.held for record in engine.settings("limit")}


def assert_that_all_can_run(engine: Engine, crew: Crew) -> None:
    """Run what is left in one session: nothing that is leaked would let it through."""
    engine.join(Session(id="last", worker="boss", tasks=frozenset({"work"}), queues=("main",), offers=OFFERS))
    for key in LIMITS:
        engine.unset("limit", key)
    demand = Ask((Kind.SYNC, Kind.ISOLATED), 50)
    until = time.monotonic() + 30.0
    outcomes: list[Succeeded] = []
    while time.monotonic() < until:
        settled = engine.settle("last", outcomes, Demand(os.urandom(8), ("main",), (demand,)))
        outcomes = [Succeeded(claim.token) for claim in settled.intake.claims]
        if not outcomes and is_at_rest(engine):
            break
        time.sleep(0.0 if outcomes else 0.05)
    jobs = engine.get([f"j{number}" for number in range(crew.jobs)])
    assert [job.id for job in jobs if job is None or not job.state.is_final] == []
    assert all(job.state in (State.SUCCEEDED, State.FAILED) for job in jobs)


def is_at_rest(engine: Engine) -> bool:
    [record] = engine.queues()
    return not any(count for state, count in record.counts.items() if not state.is_final)
