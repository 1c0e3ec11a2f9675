"""Isolated attempts: whatever they do to themselves is their own outcome, and nobody else's."""

from __future__ import annotations

import pytest

from cicely.testing.fleet import are_gone, known, wait_for


def crash_reasons(record):
    return [attempt.reason for attempt in record.attempts]


def test_an_isolated_job_runs_in_a_process_of_its_own(site):
    worker = site.start(processes=1)
    children = worker.children()

    pids = {site.jobs.alone.delay().get(timeout=10) for _ in range(3)}

    assert len(pids) == 3
    assert not pids & set(children)
    assert worker.children() == children


def test_an_endless_loop_ends_as_timeout(site):
    site.start(processes=1)

    record = site.await_state(site.jobs.loops_alone.delay(), "failed")

    assert record.reason == "timeout"


def test_a_job_that_exits_with_3_says_so(site):
    site.start(processes=1)

    record = site.await_state(site.jobs.exits_alone.delay(3), "failed")

    assert record.reason == "poison"
    assert b"exited with 3" in record.error
    assert record.tallies.crashes == 3
    assert site.jobs.nothing.delay().get(timeout=10) is None


def test_a_segfault_is_killed_by_signal_11(site):
    site.start(processes=1)

    record = site.await_state(site.jobs.segfaults_alone.delay(), "failed")

    assert b"killed by signal 11" in record.error
    assert record.tallies.crashes == 3


@pytest.mark.parametrize("total_bytes", [4 << 30])
def test_a_hog_that_takes_memory_as_fast_as_it_can_ends_as_out_of_memory(site, total_bytes):
    worker = site.start(processes=1)
    children = worker.children()

    record = site.await_state(site.jobs.hogs.delay(total_bytes), "failed", within_s=40)

    assert record.reason == "out of memory"
    assert record.tallies.errors == 1
    assert worker.children() == children


def test_a_job_that_reserves_much_and_touches_little_succeeds(site):
    site.start(processes=1)

    assert site.jobs.reserves_much.delay().get(timeout=30) == 8 << 20


def test_nothing_of_a_fork_bomb_is_left_when_its_timeout_has_passed(site):
    site.start(processes=1)
    job = site.jobs.bombs.delay(site.path())
    bombs = known(int(pid) for pid in site.await_words(32))
    assert len(bombs) == 32

    record = site.await_state(job, "failed")

    assert record.reason == "timeout"
    assert are_gone(bombs)


def test_what_an_isolated_job_leaves_behind_is_gone_before_the_job_is_settled(site):
    site.start(processes=1)
    job = site.jobs.leaves_daemons.options(isolate=True).delay(site.path(), 0.5)
    left = known(int(pid) for pid in site.await_words(2))

    site.await_state(job, "succeeded")

    assert are_gone(left)


def test_the_worker_goes_on_while_isolated_jobs_die(site):
    worker = site.start(processes=2)
    children = worker.children()
    bad = [site.jobs.exits_alone.delay(1), site.jobs.segfaults_alone.delay()]
    good = [site.jobs.quick.delay() for _ in range(50)]

    records = site.await_ends([*bad, *good])

    assert [record.state for record in records] == ["failed"] * 2 + ["succeeded"] * 50
    assert worker.children() == children
    wait_for(lambda: not worker.attempts(), within_s=5)
