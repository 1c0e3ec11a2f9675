"""A worker with one broken line is found out by the ledger, though its engine accepts everything."""

from __future__ import annotations

from cicely.testing.fleet import kill


def test_a_child_that_starts_claims_without_removing_them_overlaps(site):
    site.start(target="sabotaged_app:app", env={"CICELY_SABOTAGE": "hand-over ignored"})

    job = site.jobs.naps.delay(2.0)
    site.await_start(job, count=2)

    found = site.judge([job])
    assert found.overlapped == 1
    assert not found.is_clean


def test_a_child_that_settles_before_it_runs_loses_jobs(site):
    site.start(processes=1, target="sabotaged_app:app", env={"CICELY_SABOTAGE": "settled before it ran"})

    job = site.jobs.naps.delay(2.0)
    pid = site.await_start(job)
    kill(pid)
    site.await_state(job, "succeeded")

    found = site.judge([job])
    assert found.never_ended == 1
    assert not found.is_clean
