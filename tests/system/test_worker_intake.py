"""Nothing waits behind a stranger: what was claimed ahead is taken back, and started by one side only."""

from __future__ import annotations

import time

import pytest
from bounds import LENIENCY

from cicely.testing.fleet import kill
from cicely.testing.torture.races import race_take_backs_against_starts


def warm_up(site, count=200):
    """Let the children learn that `quick` is short, so that they claim it ahead."""
    site.await_ends(site.jobs.quick.delay_many((0.0005,) for _ in range(count)))


def test_take_backs_raced_against_starts_never_give_a_claim_to_both():
    race = race_take_backs_against_starts(take_backs=10_000, starts=1_000)

    assert race.taken_back >= 10_000
    assert race.started >= 1_000
    assert (race.doubled, race.missing) == (0, 0)


@pytest.mark.parametrize("task", ["naps", "computes", "holds_gil"])
def test_claims_taken_ahead_go_back_when_a_long_job_is_before_them(site, task):
    site.start(processes=1)
    warm_up(site)
    with site.jobs.app.batch():
        before = site.jobs.quick.delay(0.0005)
        long = getattr(site.jobs, task).delay(3.0)
        behind = site.jobs.quick.delay_many((0.0005,) for _ in range(20))

    before.get(timeout=5)
    site.await_start(long)
    site.start(processes=1)
    records = site.await_ends(behind, within_s=3)

    assert {record.state for record in records} == {"succeeded"}
    assert site.states([long]) == ["running"]
    assert site.await_state(long, "succeeded").fence == 1
    assert site.judge([before, long, *behind]).re_runs == 0


def test_a_short_job_before_a_gil_holder_is_settled_at_once_and_not_run_again(site):
    site.start(processes=1)
    with site.jobs.app.batch():
        short = site.jobs.quick.delay(0.001)
        holder = site.jobs.holds_gil.delay(4.0)
    since = time.monotonic()

    short.get(timeout=10)
    assert time.monotonic() - since < LENIENCY * 0.5
    pid = site.await_start(holder)
    time.sleep(1.5)
    kill(pid)

    site.await_start(holder, count=2)
    assert site.starts(short) == 1
    site.await_state(holder, "succeeded")
    assert site.judge([short, holder]).is_clean


@pytest.mark.parametrize("task", ["naps", "computes", "holds_gil"])
def test_in_a_stream_of_short_jobs_none_waits_for_500_ms_while_a_slot_is_free(site, task):
    site.start(processes=2)
    warm_up(site)

    waits = []
    long = getattr(site.jobs, task).delay(3.0)
    asked = []
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        asked.append((time.time(), site.jobs.quick.delay(0.001)))
        time.sleep(0.02)
    waits = [job.get(timeout=10) - at for at, job in asked]

    assert len(waits) > 30
    assert max(waits) < LENIENCY * 0.5
    assert site.await_state(long, "succeeded").fence == 1
    assert site.judge([long, *(job for _, job in asked)]).re_runs == 0


def test_one_worker_runs_plain_and_async_jobs_side_by_side(site):
    site.start(processes=1)

    slow = site.jobs.naps.delay(2.0)
    together = [site.jobs.naps_async.delay(0.5) for _ in range(50)]
    since = time.monotonic()
    records = site.await_ends(together)

    assert {record.state for record in records} == {"succeeded"}
    assert time.monotonic() - since < LENIENCY * 0.6
    assert site.await_state(slow, "succeeded").fence == 1
