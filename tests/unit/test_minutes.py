"""What a worker saw of its engine: in any minute that it was up in, it has a sign of life."""

import pytest

from cicely.core.rollup import Word
from cicely.upkeep.minutes import Minutes


def signs(minutes, now):
    """Return the instants of what would be reported."""
    return [(count.word, now - count.ago_s, count.count) for count in minutes.counts(now)]


def beats(minutes, now):
    return [at for word, at, _ in signs(minutes, now) if word is Word.BEATS]


@pytest.mark.parametrize("lease_s", [3, 30, 300, 900])
def test_each_minute_between_two_beats_has_a_sign(lease_s):
    minutes = Minutes(lease_s)
    for n in range(10):
        minutes.beaten(1000 + n * lease_s / 3)

    found = beats(minutes, 1000 + 3 * lease_s)

    last = 1000 + 9 * lease_s / 3
    seen = {int(at // 60) for at in found}
    assert seen >= set(range(1000 // 60, int((last - 20) // 60) + 1))


def test_signs_are_few():
    minutes = Minutes(3)
    for n in range(60):
        minutes.beaten(1000.0 + n)

    assert len(beats(minutes, 1060)) == 3


def test_a_silence_beyond_the_lease_is_none_of_a_worker_that_is_up():
    minutes = Minutes(30)
    minutes.beaten(1000)
    minutes.beaten(1200)

    assert beats(minutes, 1200) == [1000, 1200]


def test_failed_calls_are_counted_together():
    minutes = Minutes(30)
    for at in (1000, 1001, 1030):
        minutes.failed(at)

    assert signs(minutes, 1040) == [(Word.ENGINE_ERRORS, 1000, 2), (Word.ENGINE_ERRORS, 1030, 1)]


def test_what_was_reported_is_not_reported_again():
    minutes = Minutes(30)
    minutes.beaten(1000)
    minutes.failed(1000)
    minutes.counts(1000)
    minutes.reported()

    assert signs(minutes, 1001) == []


def test_what_another_thread_noted_during_the_report_is_kept():
    minutes = Minutes(30)
    minutes.failed(1000)
    minutes.counts(1000)
    minutes.failed(1030)
    minutes.reported()

    assert signs(minutes, 1040) == [(Word.ENGINE_ERRORS, 1030, 1)]


def test_an_outage_of_days_takes_no_room():
    minutes = Minutes(30)
    for n in range(100_000):
        minutes.failed(1000 + 21 * n)

    assert len(minutes.counts(0)) == 500
