"""The report: cells in, verdicts out."""

import pytest

from cicely.core.rollup import Cell, Word
from cicely.observe.reliability import is_good, judged, tally

HOUR = range(100, 160)


def cell(minute, word, count=1):
    return Cell(minute, word, "t", "q", count)


def lines(cells, *, until=160, **given):
    total = tally(cells, since=0, until=until)
    return {line.name: line for line in judged(total, **given)}


def a_good_hour():
    return [cell(minute, word, count) for minute in HOUR for word, count in GOOD]


GOOD = [(Word.BEATS, 6), (Word.SUCCEEDED, 60), (Word.TICKS_DUE, 1), (Word.TICKS_MADE, 1)]


def test_a_good_hour_meets_every_promise():
    found = lines(a_good_hour(), per_second=1)

    assert is_good(list(found.values()))
    assert {name: line.measure for name, line in found.items()} == {
        "throughput": 1.0,
        "schedule reliability": 1.0,
        "worker crashes": 0.0,
        "failure rate": 0.0,
        "availability": 1.0,
    }


def test_nothing_counted_is_nothing_to_judge():
    assert tally([], since=0, until=100) is None
    assert tally([cell(100, Word.BEATS)], since=0, until=100) is None


def test_the_window_begins_with_what_was_counted_first():
    assert tally(a_good_hour(), since=0, until=160).minutes == 60


def test_throughput_is_that_of_the_busiest_minute_in_what_a_job_does():
    cells = [*a_good_hour(), cell(130, Word.SUCCEEDED, 540)]

    found = lines(cells, per_second=100, per_job=10)["throughput"]

    assert (found.measure, found.is_met) == (100.0, True)
    assert not lines(cells, per_second=101, per_job=10)["throughput"].is_met


def test_no_throughput_is_judged_where_none_is_wanted():
    assert lines(a_good_hour())["throughput"].is_met is None


@pytest.mark.parametrize(
    ("extra", "broken"),
    [
        (cell(120, Word.TICKS_DUE), "schedule reliability"),
        (cell(120, Word.LOST_WORKERS), "worker crashes"),
        (cell(120, Word.FAILED, 4), "failure rate"),
        (cell(120, Word.ENGINE_ERRORS), "availability"),
    ],
)
def test_each_promise_can_be_broken(extra, broken):
    found = lines([*a_good_hour(), extra])

    assert [name for name, line in found.items() if line.is_met is False] == [broken]


def test_three_failures_of_3600_are_within_the_promise_and_four_are_not():
    assert lines([*a_good_hour(), cell(120, Word.FAILED, 3)])["failure rate"].is_met
    assert not lines([*a_good_hour(), cell(120, Word.FAILED, 4)])["failure rate"].is_met


def test_ticks_that_nobody_has_dealt_with_count_as_due():
    assert lines(a_good_hour(), overdue=1)["schedule reliability"].measure == 60 / 61


def test_a_tick_whose_earlier_job_ran_is_made():
    found = lines([*a_good_hour(), cell(120, Word.TICKS_SKIPPED)])["schedule reliability"]

    assert found.is_met
    assert "1 of them had no job of their own" in found.made_of


def test_a_minute_without_a_beat_is_not_served():
    cells = [one for one in a_good_hour() if one.word is not Word.BEATS or one.minute != 130]

    assert lines(cells)["availability"].measure == 59 / 60


def test_two_weeks_may_lose_one_worker():
    fortnight = 14 * 24 * 60
    cells = [cell(minute, Word.BEATS) for minute in range(fortnight)]

    assert lines([*cells, cell(9, Word.LOST_WORKERS)], until=fortnight)["worker crashes"].is_met
    assert not lines([*cells, cell(9, Word.LOST_WORKERS, 2)], until=fortnight)["worker crashes"].is_met
