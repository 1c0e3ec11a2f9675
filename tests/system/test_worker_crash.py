"""A process that dies takes its whole tree with it, and its jobs run again: soon, and once.

Invariants I4 (one live claim), I5 (claimable again in bounded time) and I6 (attempts are bounded, and
each ends with a reason).
"""

from __future__ import annotations

import time

import pytest
from bounds import LENIENCY

from cicely.core.identity import new_id
from cicely.core.job import Kind, NewJob
from cicely.testing.fleet import are_gone, kill, known, wait_for


def test_the_job_of_a_killed_child_runs_again_within_500_ms_and_is_charged_a_crash(site):
    site.start()
    job = site.jobs.says_its_pid.delay(site.path(), 1.0)
    first = site.await_start(job)
    since = time.monotonic()

    kill(first)
    second = site.await_start(job, count=2)

    assert time.monotonic() - since < LENIENCY * 0.5
    assert second != first
    record = site.await_state(job, "succeeded")
    assert (record.tallies.crashes, record.attempt) == (1, 2)
    assert site.judge([job]).is_clean


def test_a_job_that_kills_its_process_three_times_is_poison(site):
    site.start(processes=1)

    record = site.await_state(site.jobs.kills_its_process.delay(), "failed")

    assert record.reason == "poison"
    assert record.tallies.crashes == 3
    assert [attempt.reason for attempt in record.attempts] == ["crashed"] * 3
    assert site.jobs.nothing.delay().get(timeout=10) is None


def test_of_200_async_jobs_in_one_child_the_one_that_exits_is_poison_and_199_succeed(site):
    site.start(processes=1, coroutines=200, threads=4)
    good = [site.jobs.naps_async_at_first.delay(60.0) for _ in range(199)]
    for job in good:
        site.await_start(job)

    bad = site.jobs.exits_async.delay(0.2)
    records = site.await_ends([bad, *good], within_s=60)

    assert (records[0].state, records[0].reason) == ("failed", "poison")
    assert {record.state for record in records[1:]} == {"succeeded"}
    assert {record.tallies.crashes for record in records[1:]} == {0}
    assert {site.starts(job) for job in good} == {2}
    assert site.judge([bad, *good]).is_clean


@pytest.mark.parametrize("task", ["leaves_daemons", "leaves_daemons_and_holds_gil"])
def test_after_the_supervisor_is_killed_no_descendant_lives_for_a_second_and_then_the_job_runs_again(
    site, task
):
    doomed = site.start(processes=1)
    job = getattr(site.jobs, task).delay(site.path(), 3.0)
    family = known([*doomed.tree(), *(int(pid) for pid in site.await_words(2))])
    assert len(family) >= 3
    site.start(processes=1)

    doomed.kill()

    wait_for(lambda: are_gone(family), within_s=LENIENCY * 1.0, what="no descendant alive")
    site.await_start(job, count=2)
    assert are_gone(family)
    record = site.await_state(job, "succeeded")
    assert site.starts(job) == 2
    assert record.fence == 2
    assert site.judge([job]).is_clean


def test_a_killed_zygote_is_replaced_and_its_jobs_run_again_free(site):
    worker = site.start()
    jobs = [site.jobs.naps.delay(1.0), site.jobs.alone.delay(1.0)]
    for job in jobs:
        site.await_start(job)
    family = known(worker.tree())

    kill(worker.zygote())

    records = site.await_ends(jobs)
    assert {record.state for record in records} == {"succeeded"}
    assert {record.tallies.crashes for record in records} == {0}
    assert are_gone(family)
    assert site.judge(jobs).is_clean


def test_a_checkpoint_reaches_the_attempt_after_a_crash(site):
    site.start(processes=1)
    job = site.jobs.goes_on_from_its_checkpoint.delay(site.path())
    [pid] = site.await_words(1)

    kill(int(pid))

    assert job.get(timeout=20) == [1, 2]


def test_an_error_is_retried_and_keeps_its_attempts(site):
    site.start(processes=1)

    job = site.jobs.fails_once.delay()

    assert job.get(timeout=20) == 2
    assert [attempt.reason for attempt in site.record(job).attempts] == ["error", "succeeded"]


def test_a_job_whose_task_no_worker_knows_stays_in_place(site):
    site.start()
    stranger = NewJob(new_id(1, b"0123456789"), "elsewhere.unknown", Kind.SYNC, "default")
    site.engine.enqueue([stranger])

    assert site.jobs.nothing.delay().get(timeout=10) is None
    time.sleep(1.0)

    [record] = site.engine.get([stranger.id])
    assert (record.state, record.fence) == ("ready", 0)
