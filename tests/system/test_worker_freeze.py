"""SIGSTOP past the lease, then SIGCONT: whoever was away too long has nothing left to do.

Invariants I3 (a stale end is refused), I4 (one live claim) and I5 (a silent session is rescued).
"""

from __future__ import annotations

import time

import pytest

from cicely.core.outcome import Succeeded
from cicely.engines.contract import Verdict
from cicely.testing.fleet import are_gone, go_on, known, stop, wait_for

LEASE_S = 1.0


def start_two(site):
    """Return a worker with a running job, the job, and its children; another worker stands by."""
    frozen = site.start(processes=1, lease_s=LEASE_S)
    job = site.jobs.tells_its_token.delay(site.path(), 2.0)
    site.await_words(1)
    children = known(frozen.children())
    site.start(processes=1, lease_s=LEASE_S)
    return frozen, job, children


def settle_late(site, job):
    """Settle the job's first attempt, as its process would have."""
    token = bytes.fromhex(site.words()[0])
    return site.engine.settle("whoever", [Succeeded(token)]).verdicts[0]


def test_a_child_that_is_stopped_for_three_leases_and_goes_on_runs_its_job_once(site):
    worker = site.start(processes=2, lease_s=LEASE_S)
    job = site.jobs.naps.delay(1.0)
    child = site.await_start(job)

    stop([child])
    time.sleep(3 * LEASE_S)
    go_on([child])

    record = site.await_state(job, "succeeded")
    assert site.starts(job) == 1
    assert record.fence == 1
    assert child in worker.children()


FREEZES = {
    "supervisor": lambda worker: [worker.pid],
    "supervisor and children": lambda worker: [worker.pid, *worker.children()],
}


@pytest.mark.parametrize("who", FREEZES)
def test_no_child_outlives_the_deadline_of_a_stopped_supervisor_and_its_settle_is_refused(site, who):
    frozen, job, children = start_two(site)
    stopped = FREEZES[who](frozen)

    stop(stopped)
    # The deadline is 0.8 leases after the last beat was sent.
    wait_for(lambda: are_gone(children), within_s=3 * LEASE_S, what="the children's ends")
    site.await_start(job, count=2)

    assert settle_late(site, job) is Verdict.STALE
    go_on(stopped)
    record = site.await_state(job, "succeeded")
    assert (site.starts(job), record.tallies.lost) == (2, 1)
    assert site.judge([job]).is_clean


@pytest.mark.parametrize("with_children", ["running children", "stopped children"])
def test_nothing_of_a_worker_overlaps_with_others_when_its_zygote_is_stopped_as_well(site, with_children):
    frozen, job, children = start_two(site)
    stopped = [frozen.pid, frozen.zygote()]
    if with_children == "stopped children":
        stopped += children

    stop(stopped)
    site.await_start(job, count=2)

    assert are_gone(children)
    assert settle_late(site, job) is Verdict.STALE
    go_on(stopped)
    site.await_state(job, "succeeded")
    assert site.judge([job]).is_clean


def test_a_worker_that_was_stopped_registers_anew_and_works_on(site):
    worker = site.start(processes=1, lease_s=LEASE_S)
    children = known(worker.children())

    stop([worker.pid])
    wait_for(lambda: are_gone(children), within_s=3 * LEASE_S)
    time.sleep(LEASE_S)
    go_on([worker.pid])

    assert site.jobs.nothing.delay().get(timeout=20) is None


def test_a_job_that_holds_the_gil_for_four_leases_runs_once(site):
    site.start(processes=1, lease_s=LEASE_S)
    site.start(processes=1, lease_s=LEASE_S)

    job = site.jobs.holds_gil.delay(4 * LEASE_S)

    record = site.await_state(job, "succeeded")
    assert site.starts(job) == 1
    assert record.fence == 1
    assert site.judge([job]).is_clean
