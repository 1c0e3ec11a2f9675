"""Which side of a migration takes a job."""

from __future__ import annotations

import random

import pytest

from cicely.errors import ConfigError, UsageError
from cicely.migration.routing import Mode, Which, chosen, others, point_of
from cicely.migration.traffic import Phase, Traffic, decoded, percent_of

KEYS = [f"tenant-{number}" for number in range(10_000)]


def share_of_new(traffic, points):
    taken = [chosen(traffic, point) for point in points]
    return 100 * taken.count(Which.NEW) / len(taken)


@pytest.mark.parametrize("percent", [0, 50, 90, 100])
def test_of_10000_calls_the_new_side_takes_its_share_within_two_points(percent):
    chance = random.Random(percent).random

    by_chance = share_of_new(Traffic(percent), [chance() * 100 for _ in range(10_000)])
    by_key = share_of_new(Traffic(percent), map(point_of, KEYS))

    assert by_chance == pytest.approx(percent, abs=2)
    assert by_key == pytest.approx(percent, abs=2)


@pytest.mark.parametrize("percent", [0, 100])
def test_nought_and_a_hundred_are_exact(percent):
    assert share_of_new(Traffic(percent), map(point_of, KEYS)) == percent
    assert share_of_new(Traffic(percent), [0.0, 99.999999]) == percent


def test_a_key_goes_where_it_went_before():
    assert [chosen(Traffic(50), point_of(key)) for key in KEYS] == [
        chosen(Traffic(50), point_of(key)) for key in KEYS
    ]


def test_a_larger_share_moves_no_key_back():
    before = {key for key in KEYS if chosen(Traffic(50), point_of(key)) is Which.NEW}
    after = {key for key in KEYS if chosen(Traffic(90), point_of(key)) is Which.NEW}

    assert before < after


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.FINISHED])
def test_a_closed_side_gets_nothing_whatever_the_share(phase):
    traffic = Traffic(0, phase)

    assert chosen(traffic, 99.0) is Which.NEW
    assert others(traffic, Mode.FALLBACK, Which.NEW) == others(traffic, Mode.SHADOW, Which.NEW) == ()


def test_beside_the_first_side_only_shadow_and_fallback_know_another():
    assert others(Traffic(50), Mode.TRACK, Which.OLD) == ()
    assert others(Traffic(50), Mode.SHADOW, Which.OLD) == (Which.NEW,)
    assert others(Traffic(50), Mode.FALLBACK, Which.NEW) == (Which.OLD,)


def test_a_share_comes_back_from_where_it_is_stored():
    assert decoded(Traffic(12.5, Phase.DRAINING).encoded()) == Traffic(12.5, Phase.DRAINING)


def test_what_is_no_share_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match="cicely traffic set"):
        decoded(b"ninety")
    with pytest.raises(ConfigError, match="newer"):
        decoded(b'{"percent": 1, "phase": "split", "form": 2}')


@pytest.mark.parametrize("percent", [-1, 100.5, "50", True, float("nan")])
def test_a_percentage_is_a_number_from_0_to_100(percent):
    with pytest.raises(ConfigError, match="from 0 to 100"):
        percent_of(percent)


def test_draining_is_called_off_by_a_share_and_finished_is_not():
    assert Traffic(100, Phase.DRAINING).split(50) == Traffic(50)
    with pytest.raises(UsageError, match="finished"):
        Traffic(100, Phase.FINISHED).split(0)


def test_only_a_drained_side_is_taken_out_of_use():
    assert Traffic(50).draining().finished().phase is Phase.FINISHED
    with pytest.raises(UsageError, match="drain"):
        Traffic(100).finished()
