"""Chains, chords, durable steps and dynamic workflows on real workers, some of them killed."""

from __future__ import annotations

import pytest

from cicely import chain, chord, group
from cicely.testing.fleet import wait_for


def everything(site):
    return list(site.jobs.app.jobs())


def test_a_chain_runs_its_jobs_one_after_the_other(site):
    site.start(processes=2)

    job = chain(site.jobs.plus.s(1), site.jobs.plus_apart.s(10), site.jobs.plus.s(100)).delay()

    assert job.get(timeout=20) == 112
    assert site.judge(everything(site)).is_clean


def test_a_chord_of_hundreds_gives_its_body_all_results_in_order(site):
    site.start(processes=2)

    job = chord((site.jobs.plus.s(n, 0) for n in range(300)), site.jobs.total.s()).delay()

    assert job.get(timeout=30) == sum(range(300))
    assert site.judge(everything(site)).is_clean


def test_an_isolated_body_is_given_the_results(site):
    site.start(processes=2)

    job = (
        group(site.jobs.plus.s(n) for n in range(3)) | site.jobs.total.s() | site.jobs.plus_apart.s()
    ).delay()

    assert job.get(timeout=20) == 7


@pytest.mark.parametrize("task", ["walks", "walks_apart", "walks_async"])
def test_a_job_with_durable_steps_survives_the_death_of_its_worker_while_it_waits(site, task):
    worker = site.start(processes=1)
    job = getattr(site.jobs, task).delay(site.path())
    site.await_words(1)
    site.await_state(job, "waiting")
    worker.kill()
    site.start(processes=1)

    site.jobs.app.send_event("go", "told", key=job)

    assert job.get(timeout=20) == [1, "told", 2]
    assert site.words() == ["first", "last"]
    assert job.attempt == 1


@pytest.mark.parametrize("task", ["becomes", "becomes_apart"])
def test_a_job_goes_on_as_the_chord_that_it_returns(site, task):
    site.start(processes=2)

    job = getattr(site.jobs, task).delay(20)

    assert job.get(timeout=20) == sum(range(20)) + 20
    assert site.starts(job) == 1


def test_a_chord_outlives_the_worker_that_is_killed_in_its_midst(site):
    worker = site.start(processes=2)
    naps = [site.jobs.naps.s(0.02) for _ in range(200)]
    job = chord(naps, site.jobs.plus.si(1)).delay()
    wait_for(lambda: job.parent.completed_count() > 20, within_s=20)
    worker.kill()
    site.start(processes=2)

    assert job.get(timeout=40) == 2
    judged = site.judge(everything(site))
    assert (judged.lost, judged.accepted_twice, judged.overlapped) == (0, 0, 0)
