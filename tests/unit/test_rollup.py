"""Rollups: buckets, words, and cells that add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cicely.core.job import Tallies
from cicely.core.outcome import Again, Finish, Pause, Suspended
from cicely.core.rollup import (
    CODES,
    LAST_BUCKET,
    WORDS,
    Cell,
    Sum,
    Word,
    bucket_from_s,
    bucket_of,
    minute_of,
    quantile_s,
    run_us,
    whole,
    word_of,
)
from cicely.core.states import State

DURATIONS_US = st.integers(0, 2 * 10**15)
CELLS = st.builds(
    Cell,
    st.integers(0, 2),
    st.sampled_from([Word.SUCCEEDED, Word.FAILED]),
    st.sampled_from(["a", "b"]),
    st.just("q"),
    st.integers(0, 9),
    st.integers(0, 10**9),
    st.dictionaries(st.integers(0, LAST_BUCKET), st.integers(1, 9), max_size=3),
)


@pytest.mark.parametrize(
    ("duration_ms", "bucket"),
    [(0, 0), (0.999, 0), (1, 1), (1.999, 1), (2, 3), (3, 4), (4, 5), (5, 5), (6, 6), (1000, 20), (1536, 22)],
)
def test_an_octave_has_two_buckets(duration_ms: float, bucket: int) -> None:
    assert bucket_of(round(duration_ms * 1000)) == bucket


def test_what_takes_weeks_lies_in_the_last_bucket() -> None:
    assert bucket_of((1 << 30) * 1000 - 1) == LAST_BUCKET - 1
    assert bucket_of((1 << 30) * 1000) == bucket_of(10**18) == LAST_BUCKET


@given(DURATIONS_US)
def test_a_duration_lies_between_its_buckets_bounds(duration_us: int) -> None:
    bucket = bucket_of(duration_us)
    whole_ms_s = duration_us // 1000 / 1000

    assert bucket_from_s(bucket) <= whole_ms_s
    assert bucket == LAST_BUCKET or whole_ms_s < bucket_from_s(bucket + 1)


def test_a_run_is_measured_in_whole_microseconds_and_never_below_none() -> None:
    assert run_us(1_893_456_000.0, 1_893_456_001.0) == 1_000_000
    assert run_us(1_893_456_001.0, 1_893_456_000.0) == 0


def test_a_minute_is_that_of_the_instant() -> None:
    assert (minute_of(119.999), minute_of(120.0)) == (1, 2)


def test_words_are_stored_under_numbers_of_their_own() -> None:
    assert set(CODES) == set(Word)
    assert len(WORDS) == len(Word)


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("error", Word.RETRIED),
        ("timeout", Word.RETRIED),
        ("out of memory", Word.RETRIED),
        ("crashed", Word.CRASHED),
        ("lost", Word.LOST),
        ("deferred", Word.DEFERRED),
        ("probe", Word.DEFERRED),
        ("handed back", Word.RETURNED),
    ],
)
def test_an_attempt_counts_by_its_reason(reason: str, word: Word) -> None:
    assert word_of(Again(Tallies(), "", has_started=True), reason) is word
    assert word_of(Again(Tallies(), ""), reason) is None


def test_an_end_counts_by_its_state_and_a_pause_as_suspended() -> None:
    assert word_of(Finish(State.FAILED, Tallies(), "poison"), "crashed") is Word.FAILED
    assert word_of(Pause(Suspended(b"")), "suspended") is Word.SUSPENDED


@given(st.lists(CELLS, max_size=8), st.integers(0, 8))
def test_parts_add_up_in_any_order(cells: list[Cell], cut: int) -> None:
    once = list(whole(cells))

    assert list(whole([*whole(cells[cut:]), *whole(cells[:cut])])) == once
    assert sum(cell.count for cell in once) == sum(cell.count for cell in cells)


@given(st.lists(DURATIONS_US, min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_the_one_that_it_names(
    durations_us: list[int], share: float
) -> None:
    total = Sum()
    for duration_us in durations_us:
        total.add_run(duration_us)

    found = total.quantile_s(share)

    ranked = sorted(durations_us)
    named = ranked[max(0, -(-int(share * len(ranked) * 10**9) // 10**9) - 1)]
    bucket = bucket_of(named)
    assert bucket_from_s(bucket) * 0.999 <= found <= bucket_from_s(bucket + 1) * 1.001


def test_a_quantile_of_nothing_is_nothing() -> None:
    assert quantile_s({}, 0.5) == 0.0
    assert Sum().mean_s == 0.0
