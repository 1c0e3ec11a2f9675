"""A schedule's rules: which ticks get a job, after downtime as well, and what that job is."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cicely.core.job import Kind, NewJob
from cicely.core.schedule import (
    FROM_NOW,
    ON_TIME_S,
    TICKS_PER_TURN,
    CatchUp,
    Overlap,
    Plan,
    at_once,
    catch_up_of,
    checked_name,
    decode,
    encode,
    in_utc,
    job_of,
    overlap_of,
    tick_id,
    turn,
)
from cicely.core.when import Every, cron
from cicely.errors import ConfigError

TEMPLATE = NewJob(id="", task="work", kind=Kind.SYNC, queue="main", body=b"call")
MINUTE = 60.0
HOURLY = Every(3_600_000)


def plan(when=HOURLY, **given):
    return Plan(when=when, job=TEMPLATE, **given)


# --- turns --------------------------------------------------------------------------------------
def test_a_new_schedule_counts_from_the_moment_it_is_seen():
    step = turn(plan(), next_at=FROM_NOW, last_at=None, now=7_300.0)

    assert (step.ticks, step.last_at, step.next_at) == ((), None, 10_800.0)


def test_a_schedule_that_is_not_due_stays_as_it_is():
    step = turn(plan(), next_at=3_600.0, last_at=0.0, now=3_599.9)

    assert (step.ticks, step.last_at, step.next_at) == ((), 0.0, 3_600.0)


@pytest.mark.parametrize("policy", CatchUp)
def test_a_tick_in_time_gets_a_job_by_every_policy(policy):
    step = turn(plan(catch_up=policy), next_at=3_600.0, last_at=None, now=3_600.4)

    assert (step.ticks, step.last_at, step.next_at) == ((3_600.0,), 3_600.0, 7_200.0)


@pytest.mark.parametrize(
    ("policy", "ticks"),
    [
        (CatchUp.SKIP, ()),
        (CatchUp.ONE, (10_800.0,)),
        (CatchUp.ALL, (3_600.0, 7_200.0, 10_800.0)),
    ],
)
def test_after_hours_of_downtime_the_policy_decides(policy, ticks):
    step = turn(plan(catch_up=policy), next_at=3_600.0, last_at=0.0, now=12_000.0)

    assert step.ticks == ticks
    assert (step.last_at, step.next_at) == (10_800.0, 14_400.0)


def test_a_tick_is_due_at_its_very_instant():
    secondly = plan(Every(1_000), catch_up=CatchUp.ALL)

    assert turn(secondly, next_at=3.0, last_at=2.0, now=3.0).ticks == (3.0,)
    assert turn(secondly, next_at=2.0, last_at=1.0, now=3.0).ticks == (2.0, 3.0)


def test_skip_says_which_ticks_it_missed():
    step = turn(plan(catch_up=CatchUp.SKIP), next_at=3_600.0, last_at=0.0, now=12_000.0)

    assert step.missed_at == 10_800.0


def test_skip_still_deals_with_a_tick_that_is_late_by_less_than_a_minute():
    late = turn(plan(catch_up=CatchUp.SKIP), next_at=3_600.0, last_at=0.0, now=3_600 + ON_TIME_S)
    too_late = turn(plan(catch_up=CatchUp.SKIP), next_at=3_600.0, last_at=0.0, now=3_600.1 + ON_TIME_S)

    assert (late.ticks, too_late.ticks) == ((3_600.0,), ())


def test_all_takes_a_hundred_ticks_at_a_time_and_leaves_the_rest_due():
    secondly = plan(Every(1_000), catch_up=CatchUp.ALL)
    step = turn(secondly, next_at=1.0, last_at=None, now=1_000.0)

    assert len(step.ticks) == TICKS_PER_TURN
    assert (step.last_at, step.next_at) == (100.0, 101.0)


@given(
    st.sampled_from(
        [Every(1_000), Every(7_500, 1_700), Every(60_000), cron("*/3 * * * *", tz="Europe/Berlin")]
    ),
    st.lists(st.floats(0, 500), min_size=1, max_size=40),
)
def test_however_time_is_split_into_polls_no_tick_is_lost_or_doubled(when, gaps):
    began_at = 1_793_500_000.0
    now, next_at, last_at = began_at, FROM_NOW, None
    made: list[float] = []
    for gap in (0.0, *gaps):
        now += gap
        while (
            step := turn(plan(when, catch_up=CatchUp.ALL), next_at=next_at, last_at=last_at, now=now)
        ).ticks or (step.next_at != next_at):
            made += step.ticks
            next_at, last_at = step.next_at, step.last_at

    expected = []
    tick = when.after(began_at)
    while tick <= now:
        expected.append(tick)
        tick = when.after(tick)
    assert made == expected
    assert next_at == tick


@given(st.sampled_from(list(CatchUp)), st.lists(st.floats(0, 4_000), min_size=1, max_size=30))
def test_by_every_policy_ticks_are_strictly_increasing_and_none_is_early(policy, gaps):
    now, next_at, last_at = 1_793_500_000.0, FROM_NOW, None
    made: list[float] = []
    for gap in gaps:
        now += gap
        step = turn(plan(Every(90_000), catch_up=policy), next_at=next_at, last_at=last_at, now=now)
        assert all(tick <= now for tick in step.ticks)
        made += step.ticks
        next_at, last_at = step.next_at, step.last_at

    assert all(earlier < later for earlier, later in pairwise(made))


# --- jobs ---------------------------------------------------------------------------------------
def test_the_id_of_a_ticks_job_is_the_name_and_the_instant():
    assert tick_id("nightly", 1_795_237_200.0) == "nightly@2026-11-21T05:00:00Z"
    assert tick_id("fast", 1_795_237_200.25) == "fast@2026-11-21T05:00:00.250Z"


def test_a_ticks_job_is_the_template_with_an_id_that_is_remembered_and_a_tag():
    job = job_of(plan(), "nightly", 3_600.0)

    assert (job.task, job.queue, job.body, job.unique) == ("work", "main", b"call", "")
    assert job.id == "nightly@1970-01-01T01:00:00Z"
    assert job.tags == ("schedule:nightly",)
    assert job.remember_s == 86_400


def test_a_schedule_that_skips_overlaps_has_one_live_job_at_most():
    skipping = plan(overlap=Overlap.SKIP)

    assert job_of(skipping, "nightly", 3_600.0).unique == job_of(skipping, "nightly", 7_200.0).unique != ""
    assert at_once(skipping, "nightly", "by-hand").unique == job_of(skipping, "nightly", 3_600.0).unique


def test_a_key_of_the_tasks_own_stays():
    own = msgspec.structs.replace(
        plan(overlap=Overlap.SKIP), job=msgspec.structs.replace(TEMPLATE, unique="mine")
    )

    assert job_of(own, "nightly", 3_600.0).unique == "mine"


def test_jitter_spreads_jobs_and_every_worker_finds_the_same():
    spread = plan(jitter_s=30.0)
    delays = [job_of(spread, "nightly", tick * 3_600.0).delay_s for tick in range(200)]

    assert delays == [job_of(spread, "nightly", tick * 3_600.0).delay_s for tick in range(200)]
    assert min(delays) < 3 < 27 < max(delays) < 30
    assert job_of(plan(), "nightly", 3_600.0).delay_s == 0
    assert at_once(spread, "nightly", "by-hand").delay_s == 0


def test_instants_are_written_in_utc_to_the_millisecond():
    assert in_utc(1_795_237_200.9996) == "2026-11-21T05:00:01Z"


# --- bytes --------------------------------------------------------------------------------------
def test_a_plan_comes_back_from_its_bytes_as_it_was():
    whole = plan(
        cron("*/5 * * * *", tz="Europe/Berlin"),
        catch_up=CatchUp.ALL,
        overlap=Overlap.SKIP,
        jitter_s=2.5,
        skipped=3,
        skipped_at=60.0,
    )

    assert decode(encode(whole), name="nightly") == whole
    assert encode(whole) == encode(decode(encode(whole), name="nightly"))


def test_two_plans_say_the_same_whatever_has_happened_to_them():
    assert plan().says_what(plan(skipped=2, skipped_at=5.0))
    assert not plan().says_what(plan(jitter_s=1.0))


@pytest.mark.parametrize("spec", [b"", b"\x02\x80", b"\x01", b"\x01\x80", b"\x01\xc1", b"junk"])
def test_bytes_that_are_no_plan_are_refused_with_a_remedy(spec):
    with pytest.raises(ConfigError, match=r"schedule nightly .*(upgrade it|remove it)"):
        decode(spec, name="nightly")


def test_an_interval_of_nothing_cannot_be_stored():
    spec = encode(plan(Every(0)))

    with pytest.raises(ConfigError, match="cannot be read"):
        decode(spec, name="nightly")


# --- what people write --------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["", "two words", "a@b", "-x", "a*", "x" * 121, "a\nb", 7, None])
def test_a_name_that_cannot_be_part_of_an_id_is_refused(name):
    with pytest.raises(ConfigError, match="a printable name"):
        checked_name(name)


def test_policies_are_refused_by_what_they_may_be():
    with pytest.raises(ConfigError, match='"skip" makes no job'):
        catch_up_of("never")
    with pytest.raises(ConfigError, match='"allow", or "skip"'):
        overlap_of("deny")
