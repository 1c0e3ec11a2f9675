"""Cancelling: what has not started ends at once, what runs is asked, then killed (invariant I13)."""

from __future__ import annotations

import time

import pytest
from bounds import LENIENCY

from cicely.errors import JobCancelled
from cicely.testing.fleet import are_gone, known

MANY = 100


@pytest.mark.parametrize("task", ["naps_in_steps", "naps_async"])
def test_of_a_hundred_running_jobs_all_but_one_are_cancelled_within_a_second(site, task):
    site.start(processes=2, threads=MANY // 2)
    jobs = [getattr(site.jobs, task).delay(60.0) for _ in range(MANY)]
    for job in jobs:
        site.await_start(job)

    spans = sorted(_cancelled_in_s(job) for job in jobs)

    assert spans[-2] < LENIENCY * 1.0
    assert set(site.states(jobs)) == {"cancelled"}


def _cancelled_in_s(job) -> float:
    """Cancel a job, and return how long it took until it had ended."""
    since = time.monotonic()
    job.cancel()
    with pytest.raises(JobCancelled):
        job.get(timeout=20)
    return time.monotonic() - since


def test_a_job_that_cannot_be_interrupted_is_killed_after_the_grace(site):
    worker = site.start(processes=1, cancel_grace_s=0.5)
    job = site.jobs.holds_gil.delay(60.0)
    site.await_start(job)
    children = known(worker.children())

    job.cancel()

    site.await_state(job, "cancelled")
    assert are_gone(children)
    assert site.starts(job) == 1


def test_an_isolated_job_is_cancelled_with_all_that_it_forked(site):
    site.start(processes=1, cancel_grace_s=0.5)
    job = site.jobs.leaves_daemons.options(isolate=True).delay(site.path(), 60.0)
    left = known(int(pid) for pid in site.await_words(2))

    job.cancel()

    site.await_state(job, "cancelled")
    assert are_gone(left)


def test_a_job_that_waits_is_cancelled_and_never_starts(site):
    job = site.jobs.nothing.options(countdown=1).delay()
    job.cancel()

    site.start(processes=1)
    time.sleep(1.5)

    assert site.states([job]) == ["cancelled"]
    assert site.starts(job) == 0


def test_cancelling_one_of_many_jobs_of_a_child_leaves_the_others_alone(site):
    site.start(processes=1)
    others = [site.jobs.naps_async.delay(1.5) for _ in range(20)]
    job = site.jobs.naps_async.delay(60.0)
    site.await_start(job)

    job.cancel()

    site.await_state(job, "cancelled")
    records = site.await_ends(others)
    assert {record.state for record in records} == {"succeeded"}
    assert {record.fence for record in records} == {1}
