"""The process is killed at the failpoints of a scenario of workflows, steps and a schedule.

Nothing is doubled: chord bodies run once, no step runs again after it was recorded, no tick is lost, and
the values are right. `make test` dies at three hits of each failpoint on SQLite, and for some seconds at
other hits in each run on servers; `make torture` (CICELY_FULL=1) at every hit.

Invariants I1 (exactly one final state), I2 (for good), I7 (one id is one job) and I9 (what comes after a job
is released with its result).
"""

from __future__ import annotations

import pytest
from backends import NAMES, empty_place, server
from bounds import IS_FULL
from crash_loop import check_crashes, check_some_crashes, every, three_of
from crash_workflows import Workflows


@pytest.mark.timeout(3600 if IS_FULL else 240)
def test_a_crash_at_any_failpoint_leaves_workflows_steps_and_ticks_whole(folder):
    chosen = every if IS_FULL else three_of

    check_crashes(folder, lambda place: Workflows(f"sqlite:///{place}/jobs.db"), chosen)


@pytest.mark.timeout(3600 if IS_FULL else 240)
@pytest.mark.parametrize("name", NAMES)
def test_on_a_server_too_a_crash_at_any_failpoint_leaves_workflows_steps_and_ticks_whole(name, folder):
    running = server(name)

    def stage(place):
        return Workflows(empty_place(name, running))

    if IS_FULL:
        check_crashes(folder, stage, every)
    else:
        check_some_crashes(folder, stage, within_s=15)
