"""Stopping, recycling: what runs ends or goes back, and costs nobody anything."""

from __future__ import annotations

import time

from bounds import LENIENCY

from cicely.testing.fleet import wait_for


def free(record):
    tallies = record.tallies
    return (tallies.errors, tallies.crashes, tallies.lost) == (0, 0, 0)


def test_sigterm_lets_running_jobs_end_and_leaves_the_others_in_place(site):
    worker = site.start(processes=1)
    running = site.jobs.naps.delay(1.0)
    site.await_start(running)
    waiting = [site.jobs.naps.delay(0.1) for _ in range(5)]

    worker.terminate()

    assert worker.wait(within_s=10) == 0
    assert site.states([running]) == ["succeeded"]
    assert site.states(waiting) == ["ready"] * 5
    assert all(free(record) for record in site.records(waiting))
    assert site.engine.sessions() == []


def test_a_job_that_outlasts_the_grace_keeps_its_checkpoint_and_goes_back_free(site):
    worker = site.start(processes=1, grace_s=0.5)
    job = site.jobs.stops_when_asked.delay(site.path())
    site.await_words(1)

    worker.terminate()

    assert worker.wait(within_s=10) == 0
    record = site.record(job)
    assert record.state == "ready"
    assert free(record)
    site.start(processes=1)
    assert job.get(timeout=10) == [1, 2]
    assert site.record(job).attempt == 1


def test_a_second_signal_hands_back_at_once(site):
    worker = site.start(processes=2, grace_s=30)
    plain = site.jobs.naps.delay(60.0)
    alone = site.jobs.alone.delay(60.0)
    site.await_start(plain)
    site.await_start(alone)
    since = time.monotonic()

    worker.terminate()
    wait_for(lambda: "stopping" in worker.said, within_s=5)
    worker.terminate()

    assert worker.wait(within_s=10) == 0
    assert time.monotonic() - since < LENIENCY
    assert site.states([plain, alone]) == ["ready", "ready"]
    assert all(free(record) for record in site.records([plain, alone]))


def test_a_job_of_many_that_is_stopped_as_it_runs_isolated_goes_back_free(site):
    worker = site.start(processes=1, grace_s=0.5)
    job = site.jobs.alone.delay(60.0)
    site.await_start(job)

    worker.terminate()

    assert worker.wait(within_s=10) == 0
    assert site.states([job]) == ["ready"]
    assert free(site.record(job))


def test_max_jobs_recycles_children_and_loses_nothing(site):
    site.start(processes=2, max_jobs=10)

    jobs = [site.jobs.says_its_pid.delay(site.path(), 0.0) for _ in range(100)]
    records = site.await_ends(jobs)

    assert {record.state for record in records} == {"succeeded"}
    pids = site.words()
    assert len(pids) == 100
    assert len(set(pids)) >= 10
    assert all(pids.count(pid) <= 10 for pid in set(pids))
    assert site.judge(jobs).is_clean


def test_a_stopped_worker_says_how_many_jobs_it_waits_for(site):
    worker = site.start(processes=1)
    site.await_start(site.jobs.naps.delay(0.5))

    worker.terminate()
    worker.wait(within_s=10)

    assert "stopping: 1 job" in worker.said


def test_an_idle_worker_whose_file_was_deleted_stops_within_seconds(site):
    worker = site.start(processes=1, lease_s=30.0)
    site.jobs.naps.delay(0.0).get(timeout=20)
    site.engine.close()
    for file in site.folder.glob("jobs.db*"):
        if file.is_file():
            file.unlink()
    # Its child asks an engine that answers nobody, again and again, once it looks for jobs.
    wait_for(lambda: "does not answer, trying again" in worker.said, within_s=15)
    since = time.monotonic()

    worker.terminate()

    assert worker.wait(within_s=10) == 0
    assert time.monotonic() - since < 3 + LENIENCY
