"""The process is killed at every hit of every failpoint in a scenario of 200 jobs: nothing is lost.

On servers, `make test` lives through a tenth of the jobs and dies at the first, the middle and the last hit
of each failpoint; `make torture` (CICELY_FULL=1) does all of it.

Invariants I1 (exactly one final state), I2 (for good), I3 (by a current token), I4 (one live claim), I6
(every attempt has a reason) and I7 (one id is one job: each life repeats all enqueues).
"""

from __future__ import annotations

import pytest
from backends import NAMES, empty_place, server
from bounds import IS_FULL
from crash_loop import check_crashes, every, three_of
from crash_scenario import Scenario

SHARE = 1.0 if IS_FULL else 0.1


@pytest.mark.timeout(600)
def test_a_crash_at_any_failpoint_loses_nothing_and_runs_nothing_twice(folder):
    check_crashes(folder, lambda place: Scenario(f"sqlite:///{place}/jobs.db"), every)


@pytest.mark.timeout(3600 if IS_FULL else 120)
@pytest.mark.parametrize("name", NAMES)
def test_on_a_server_too_a_crash_at_any_failpoint_loses_nothing_and_runs_nothing_twice(name, folder):
    running = server(name)

    chosen = every if IS_FULL else three_of

    check_crashes(folder, lambda place: Scenario(empty_place(name, running), SHARE), chosen)


def test_the_scenario_has_200_jobs():
    assert len(Scenario("").all) == 200
