"""Memory limits that the kernel keeps, in real control groups.

They need a group that was made for them, named by CICELY_CGROUP; without one they are not collected.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from cicely.testing.fleet import wait_for
from cicely.worker.cgroups import VARIABLE


def groups() -> list[Path]:
    """All groups of workers, and of attempts below them."""
    parent = Path(os.environ[VARIABLE])
    return [path for path in parent.rglob("*") if path.is_dir()]


def attempts() -> list[Path]:
    return [group for group in groups() if "cicely" not in group.name]


def test_the_first_lines_say_that_groups_keep_the_limits(site):
    worker = site.start(processes=1)

    assert "memory limits: kept by control groups in" in worker.said


def test_a_hog_is_out_of_memory_and_leaves_no_group(site):
    worker = site.start(processes=1)

    record = site.await_state(site.jobs.hogs.delay(4 << 30), "failed", within_s=40)

    assert record.reason == "out of memory"
    assert record.tallies.errors == 1
    assert attempts() == []
    worker.terminate()
    worker.wait(within_s=15)
    assert groups() == []


def test_a_job_whose_helper_process_is_the_hog_is_out_of_memory_as_well(site):
    site.start(processes=1)

    record = site.await_state(site.jobs.hogs_in_a_helper.delay(4 << 30), "failed", within_s=40)

    assert record.reason == "out of memory"
    assert attempts() == []


def test_the_group_of_a_worker_that_was_killed_is_removed_by_the_next(site):
    worker = site.start(processes=1)
    site.jobs.naps.options(memory="256M").delay(30.0)
    wait_for(attempts, within_s=10)

    os.kill(worker.pid, signal.SIGKILL)
    left = groups()
    site.start(processes=1)

    wait_for(lambda: not any(group.exists() for group in left), within_s=10)
