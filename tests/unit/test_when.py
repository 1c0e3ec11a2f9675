"""When schedules tick: intervals, cron expressions and the days on which the clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from cicely.core.when import Cron, Every, cron, every, upcoming
from cicely.errors import ConfigError

BERLIN = "Europe/Berlin"
NEW_YORK = "America/New_York"
LORD_HOWE = "Australia/Lord_Howe"  # half an hour of daylight saving


def wall_clocks(expression: str, tz: str, since: datetime, count: int) -> list[str]:
    ticks = upcoming(cron(expression, tz=tz), since.replace(tzinfo=ZoneInfo(tz)).timestamp())
    moments = (datetime.fromtimestamp(tick, ZoneInfo(tz)) for tick in islice(ticks, count))
    return [f"{moment:%d. %H:%M%z}" for moment in moments]


# --- intervals ----------------------------------------------------------------------------------
def test_an_interval_ticks_at_whole_multiples_of_the_epoch():
    assert list(islice(upcoming(every("30s"), 100.0), 3)) == [120.0, 150.0, 180.0]


def test_the_tick_after_a_tick_is_the_next_one():
    assert every("30s").after(120.0) == 150.0
    assert every("30s").after(119.9995) == 120.0


def test_an_instant_that_floats_cannot_hold_exactly_is_its_own_millisecond():
    assert Every(1_000, 1).after(1.001) == 2.001
    assert Every(1_000, 1).latest(1.001, 2.001) == 2.001


def test_an_interval_with_a_start_ticks_at_the_start_first():
    start = datetime(2030, 1, 1, 0, 0, 7, tzinfo=UTC)
    rule = every(timedelta(minutes=1), start=start)

    assert rule.after(0.0) == start.timestamp()
    assert rule.after(start.timestamp()) == start.timestamp() + 60


@pytest.mark.parametrize(
    ("written", "interval_ms"),
    [("30s", 30_000), (90, 90_000), (timedelta(hours=1), 3_600_000), (1.5, 1_500), ("1500ms", 1_500)],
)
def test_an_interval_is_written_as_every_duration(written, interval_ms):
    assert every(written) == Every(interval_ms)


def test_an_interval_below_a_second_is_refused():
    with pytest.raises(ConfigError, match=r"once per second at most"):
        every("500ms")


def test_a_start_without_a_time_zone_is_refused():
    with pytest.raises(ConfigError, match=r"a datetime with a time zone"):
        every("1h", start=datetime(2030, 1, 1))


def test_rules_say_in_words_when_they_tick():
    assert [str(rule) for rule in (every("90s"), every("2h"), every(1.5), cron("0 5 * * *", tz=BERLIN))] == [
        "every 90s",
        "every 2h",
        "every 1.5s",
        "0 5 * * * (Europe/Berlin)",
    ]


# --- daylight saving ----------------------------------------------------------------------------
def test_a_daily_time_that_the_clock_skips_ticks_right_after_the_gap():
    assert wall_clocks("30 2 * * *", BERLIN, datetime(2026, 3, 28, 3), 2) == [
        "29. 03:00+0200",
        "30. 02:30+0200",
    ]
    assert wall_clocks("30 2 * * *", NEW_YORK, datetime(2026, 3, 7, 3), 2) == [
        "08. 03:00-0400",
        "09. 02:30-0400",
    ]


def test_a_daily_time_that_comes_twice_ticks_once_the_first_time():
    assert wall_clocks("30 2 * * *", BERLIN, datetime(2026, 10, 24, 3), 2) == [
        "25. 02:30+0200",
        "26. 02:30+0100",
    ]
    assert wall_clocks("30 1 * * *", NEW_YORK, datetime(2026, 10, 31, 3), 2) == [
        "01. 01:30-0400",
        "02. 01:30-0500",
    ]


def test_a_schedule_of_minutes_goes_on_through_the_hour_that_comes_twice():
    assert wall_clocks("*/30 * * * *", BERLIN, datetime(2026, 10, 25, 1, 45), 5) == [
        "25. 02:00+0200",
        "25. 02:30+0200",
        "25. 02:00+0100",
        "25. 02:30+0100",
        "25. 03:00+0100",
    ]


def test_a_schedule_of_minutes_leaves_out_the_hour_that_does_not_exist():
    assert wall_clocks("*/30 * * * *", BERLIN, datetime(2026, 3, 29, 1, 15), 3) == [
        "29. 01:30+0100",
        "29. 03:00+0200",
        "29. 03:30+0200",
    ]


def test_half_an_hour_that_comes_twice_costs_no_tick_of_the_day():
    assert wall_clocks("0 2 * * *", LORD_HOWE, datetime(2026, 4, 4, 3), 2) == [
        "05. 02:00+1030",
        "06. 02:00+1030",
    ]
    assert wall_clocks("*/30 * * * *", LORD_HOWE, datetime(2026, 4, 5, 1, 15), 3) == [
        "05. 01:30+1100",
        "05. 01:30+1030",
        "05. 02:00+1030",
    ]
    # A rule for one hour of each day: cronsim by itself would begin at 05:30.
    assert wall_clocks("* 5 * * *", LORD_HOWE, datetime(2026, 4, 4, 5, 59), 2) == [
        "05. 05:00+1030",
        "05. 05:01+1030",
    ]


def test_half_an_hour_that_does_not_exist_costs_no_tick_of_the_day():
    assert wall_clocks("15 2 * * *", LORD_HOWE, datetime(2026, 10, 3, 3), 2) == [
        "04. 02:30+1100",
        "05. 02:15+1100",
    ]
    assert wall_clocks("* 5 * * *", LORD_HOWE, datetime(2026, 10, 3, 5, 59), 1) == ["04. 05:00+1100"]


EXPRESSIONS = st.sampled_from(
    [
        "* * * * *",
        "*/7 * * * *",
        "*/20 1-3 * * *",
        "30 2 * * *",
        "0,59 1,2,3 * * *",
        "15 */2 * * *",
        "0 5 * * MON",
        "0 0 L * *",
        "30 2 * * SUN#1",
        "*/30 * * * * *",
        "15 30 2 * * *",
    ]
)
#: In the days around the changes of a year, and anywhere.
INSTANTS = st.one_of(
    st.integers(1_774_600_000, 1_775_500_000),
    st.integers(1_793_300_000, 1_793_700_000),
    st.integers(1_600_000_000, 2_200_000_000),
)


@given(EXPRESSIONS, st.sampled_from([BERLIN, NEW_YORK, "UTC"]), INSTANTS)
def test_where_clocks_shift_by_whole_hours_ticks_are_those_of_cronsim(expression, tz, since):
    zone = ZoneInfo(tz)
    theirs = (moment.timestamp() for moment in CronSim(expression, datetime.fromtimestamp(since, zone)))
    # Begun inside the hour that comes twice, it may go back to a time that has passed.
    expected = list(islice((tick for tick in theirs if tick > since), 12))

    assert list(islice(upcoming(cron(expression, tz=tz), since), 12)) == expected


@given(EXPRESSIONS, st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE]), INSTANTS, st.integers(0, 100_000))
def test_ticks_do_not_depend_on_where_the_count_begins(expression, tz, since, later_s):
    rule = cron(expression, tz=tz)
    first = rule.after(since)
    between = min(since + later_s, first - 1)

    assert first > since
    assert rule.after(between) == first
    assert rule.after(first) > first


@given(EXPRESSIONS, st.sampled_from([BERLIN, LORD_HOWE]), INSTANTS, st.integers(0, 400_000))
def test_the_latest_tick_is_the_one_after_which_none_is_due(expression, tz, since, span_s):
    rule = cron(expression, tz=tz)
    first = rule.after(since)
    until = first + span_s

    latest = rule.latest(first, until)

    assert first <= latest <= until < rule.after(latest)


@given(st.integers(1_000, 10_000_000), st.integers(0, 10**12), st.integers(0, 2 * 10**12))
def test_an_interval_has_no_gaps_and_no_doubles(interval_ms, start_ms, since_ms):
    rule = Every(interval_ms, start_ms)
    since = since_ms / 1000
    tick = rule.after(since)

    assert tick > since
    assert tick - since <= interval_ms / 1000 + 1e-6 or tick == start_ms / 1000
    assert round(rule.after(tick) * 1000) - round(tick * 1000) == interval_ms
    assert rule.latest(tick, tick + 2.5 * interval_ms / 1000) == rule.after(rule.after(tick))


def test_years_of_minutes_are_caught_up_with_at_once():
    rule = Cron("* * * * *", BERLIN)

    assert rule.latest(0.0, 1_795_237_230.0) == 1_795_237_200.0


# --- what is refused ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "near"),
    [("Europe/Berln", "Europe/Berlin"), ("berlin", "Europe/Berlin"), ("New York", "America/New_York")],
)
def test_an_unknown_zone_is_refused_with_the_nearest(written, near):
    with pytest.raises(ConfigError, match=f"there is no time zone '{written}'; did you mean '{near}'"):
        cron("0 5 * * *", tz=written)


@pytest.mark.parametrize("written", ["", "../../etc/passwd", "/etc/localtime", "zzzz", "a\0b"])
def test_what_is_no_zone_at_all_is_refused(written):
    with pytest.raises(ConfigError, match="there is no time zone"):
        cron("0 5 * * *", tz=written)


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6 *", "0 0 0 30 2 *"])
def test_an_expression_that_never_fires_is_refused(expression):
    with pytest.raises(ConfigError, match="never fires"):
        cron(expression)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("61 * * * *", "the field for the minute is out of range"),
        ("0 25 * * *", "the field for the hour"),
        ("0 0 30 13 *", "the field for the month"),
        ("0 0 * * MOO", "the field for the day-of-week"),
        ("5 4 * *", "has 4 fields: write five"),
        ("@daily", "has 1 fields: write five"),
        ("", "has 0 fields"),
        ("\ud800 * * * *", "the field for the minute"),
        ("*" * 300, "write a text such as"),
        (None, "write a text such as"),
    ],
)
def test_an_expression_that_cannot_be_read_is_refused_with_the_reason(expression, reason):
    with pytest.raises(ConfigError, match=reason.replace("*", r"\*")):
        cron(expression)


def test_an_expression_that_another_version_stored_is_refused_when_it_is_used():
    with pytest.raises(ConfigError, match="the field for the minute"):
        Cron("what * * * *").after(0.0)
