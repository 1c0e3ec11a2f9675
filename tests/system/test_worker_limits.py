"""Limits end an attempt with a named outcome, and nothing else with it."""

from __future__ import annotations

import time

import pytest
from bounds import LENIENCY

from cicely.errors import JobFailed


def test_a_plain_a_blocking_and_an_async_job_over_their_timeout_end_as_timeout(site):
    site.start()

    jobs = [task.delay(30.0) for task in (site.jobs.overruns, site.jobs.overruns_async)]
    jobs.append(site.jobs.overruns_in_c.delay(30.0))
    records = site.await_ends(jobs, within_s=20)

    assert [(record.state, record.reason) for record in records] == [("failed", "timeout")] * 3
    assert [record.tallies.errors for record in records] == [1, 1, 1]
    with pytest.raises(JobFailed, match="Timeout"):
        jobs[0].get(timeout=5)


def test_the_neighbours_of_a_job_over_its_limit_run_again_at_no_cost(site):
    site.start(processes=1, threads=2)
    neighbour = site.jobs.naps_in_steps.delay(2.5)
    site.await_start(neighbour)

    late = site.jobs.overruns.delay(30.0)

    assert site.await_state(late, "failed").reason == "timeout"
    record = site.await_state(neighbour, "succeeded")
    assert (record.tallies.errors, record.tallies.crashes, record.tallies.lost) == (0, 0, 0)
    assert record.attempt == 1
    assert site.starts(neighbour) == 2


def test_a_soft_timeout_is_raised_in_the_job_which_may_clean_up(site):
    site.start(processes=1)

    job = site.jobs.cleans_up_in_time.delay(30.0)

    assert job.get(timeout=10) == "cleaned up"


def test_a_job_without_a_sign_of_life_is_stalled_and_one_with_progress_is_not(site):
    site.start()

    lively = site.jobs.shows_progress.delay(8)
    stalled = site.jobs.stalls_after.delay(3)

    assert lively.get(timeout=20) == 8
    assert site.await_state(stalled, "failed").reason == "stalled"


def test_an_option_of_the_call_limits_that_job_alone(site):
    site.start(processes=1)

    record = site.await_state(site.jobs.naps.options(timeout=0.5).delay(30.0), "failed")

    assert record.reason == "timeout"
    assert site.jobs.naps.delay(0.7).get(timeout=10) > 0


def test_a_timeout_is_retried_where_the_task_names_it_only(site):
    site.start(processes=1)

    record = site.await_state(site.jobs.overruns.delay(30.0), "failed")

    assert record.tallies.errors == 1
    assert len(record.attempts) == 1


def test_a_limited_job_ends_near_its_limit(site):
    site.start(processes=1)
    job = site.jobs.overruns_in_c.delay(30.0)
    site.await_start(job)
    since = time.monotonic()

    site.await_state(job, "failed")

    # The limit is 1 s; killing, burying and settling may take a second.
    assert time.monotonic() - since < 1 + LENIENCY
