"""Limits: what passes in any time, what a refusal does, and how rates are written."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cicely.core.limits import (
    BURST_SHARE,
    CUT_COOLDOWN_S,
    FRESH,
    NEVER,
    Gauge,
    Limit,
    Rate,
    ceiling,
    corrected,
    given_back,
    opens_at,
    parse_rate,
    refused,
    reserved,
)
from cicely.errors import ConfigError

NOW = 1_900_000_000.0
TOKENS = Limit(key="api", costs={"tokens": Rate(6000, 60.0)})

amounts = st.integers(1, 2000)
periods = st.sampled_from([0.5, 1.0, 10.0, 60.0, 3600.0])
#: How long after the one before, as a share of the period, a job asks.
pauses = st.lists(st.one_of(st.just(0.0), st.floats(0.0, 0.3)), min_size=1, max_size=100)


def nobody(_since: float) -> int:
    return 0


def passed(limit: Limit, asks: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return which of these pass at once, as (when, cost of tokens)."""
    gauge = FRESH
    through = []
    for at, cost in asks:
        if opens_at(limit, gauge, {"tokens": cost}, now=at, held=nobody) <= at:
            gauge = reserved(limit, gauge, {"tokens": cost}, now=at)
            through.append((at, cost))
    return through


def times(pauses: list[float], period_s: float) -> list[float]:
    at = 0.0
    return [at := at + pause * period_s for pause in pauses]


# --- in any time --------------------------------------------------------------------------
@given(amounts, periods, pauses)
def test_no_period_sees_more_jobs_than_the_amount(amount: int, period_s: float, pauses: list[float]) -> None:
    limit = Limit(key="api", rate=Rate(amount, period_s))

    through = [at for at, _ in passed(limit, [(at, 0.0) for at in times(pauses, period_s)])]

    for at in through:
        assert sum(at <= other < at + period_s * (1 - 1e-9) for other in through) <= amount


@given(st.floats(10, 1e6), periods, pauses, st.lists(st.floats(0.0, 1.0), min_size=100, max_size=100))
def test_no_period_sees_more_of_a_cost_than_the_amount(
    amount: float, period_s: float, pauses: list[float], shares: list[float]
) -> None:
    limit = Limit(key="api", costs={"tokens": Rate(amount, period_s)})
    costs = [share * BURST_SHARE * amount for share in shares]

    through = passed(limit, list(zip(times(pauses, period_s), costs, strict=False)))

    for at, _ in through:
        seen = sum(cost for other, cost in through if at <= other < at + period_s)
        assert seen <= amount * (1 + 1e-6)


@given(st.floats(10, 1e6), periods, pauses, st.lists(st.floats(0.0, 0.5), min_size=100, max_size=100))
def test_only_one_larger_cost_goes_beyond_the_amount(
    amount: float, period_s: float, pauses: list[float], shares: list[float]
) -> None:
    limit = Limit(key="api", costs={"tokens": Rate(amount, period_s)})
    costs = [share * amount for share in shares]

    through = passed(limit, list(zip(times(pauses, period_s), costs, strict=False)))

    for at, _ in through:
        inside = [cost for other, cost in through if at <= other < at + period_s]
        assert sum(inside) <= amount * (1 + 1e-6) + max(inside)


@given(amounts, periods)
def test_who_asks_when_told_to_passes_and_loses_little_of_the_rate(amount: int, period_s: float) -> None:
    limit = Limit(key="api", rate=Rate(amount, period_s))
    gauge, at, through = FRESH, 0.0, []
    for _ in range(min(3 * amount, 500)):
        at = opens_at(limit, gauge, {}, now=at, held=nobody)
        assert opens_at(limit, gauge, {}, now=at, held=nobody) == at
        gauge = reserved(limit, gauge, {}, now=at)
        through.append(at)

    assert through[-1] <= len(through) / amount * period_s / (1 - BURST_SHARE) + 1e-6


def test_a_rate_below_one_lets_one_pass_at_a_time() -> None:
    limit = Limit(key="api", rate=Rate(0.5, 60.0))
    gauge = reserved(limit, FRESH, {}, now=NOW)

    assert opens_at(limit, gauge, {}, now=NOW, held=nobody) == pytest.approx(NOW + 120)


def test_a_cost_larger_than_the_bucket_waits_until_it_is_full() -> None:
    gauge = reserved(TOKENS, FRESH, {"tokens": 97.0}, now=NOW)

    assert opens_at(TOKENS, gauge, {"tokens": 5000.0}, now=NOW, held=nobody) == pytest.approx(NOW + 1.0)


def test_all_meters_must_let_it_pass() -> None:
    limit = Limit(key="api", rate=Rate(10, 10.0), costs={"tokens": Rate(6000, 60.0)})
    gauge = reserved(limit, FRESH, {"tokens": 970.0}, now=NOW)

    assert opens_at(limit, gauge, {"tokens": 180.0}, now=NOW, held=nobody) == pytest.approx(NOW + 10.0)


def test_without_bounds_all_passes_and_nothing_is_noted() -> None:
    limit = Limit(key="api")

    assert opens_at(limit, FRESH, {"tokens": 1e9}, now=NOW, held=lambda _: 10**6) == NOW
    assert reserved(limit, FRESH, {"tokens": 1e9}, now=NOW) is FRESH


# --- coming back --------------------------------------------------------------------------
@given(st.floats(0, 1e5))
def test_what_comes_back_unused_was_never_there(cost: float) -> None:
    before = reserved(TOKENS, FRESH, {"tokens": 97.0}, now=NOW)

    after = given_back(TOKENS, reserved(TOKENS, before, {"tokens": cost}, now=NOW), {"tokens": cost})

    assert after.full_at["tokens"] == pytest.approx(before.full_at["tokens"], abs=1e-3)


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_after_its_correction_only_what_was_spent_counts(cost: float, spent: float) -> None:
    reservation = reserved(TOKENS, FRESH, {"tokens": cost}, now=NOW)

    after = corrected(TOKENS, reservation, {"tokens": cost}, {"tokens": spent})

    right = reserved(TOKENS, FRESH, {"tokens": spent}, now=NOW)
    assert after.full_at["tokens"] == pytest.approx(right.full_at["tokens"], abs=1e-3)


def test_a_meter_that_a_limit_does_not_have_is_not_corrected() -> None:
    assert corrected(TOKENS, FRESH, {}, {"usd": 5.0}) == FRESH


# --- at once ------------------------------------------------------------------------------
@pytest.mark.parametrize(("held", "opens"), [(0, NOW), (1, NOW), (2, NEVER), (3, NEVER)])
def test_only_a_release_can_tell_when_a_full_limit_opens(held: int, opens: float) -> None:
    limit = Limit(key="api", concurrency=2)

    assert opens_at(limit, FRESH, {}, now=NOW, held=lambda _: held) == opens


def test_a_full_limit_is_not_opened_by_its_rate() -> None:
    limit = Limit(key="api", concurrency=1, rate=Rate(10, 10.0))
    gauge = reserved(limit, FRESH, {}, now=NOW)

    assert opens_at(limit, gauge, {}, now=NOW, held=lambda _: 1) == NEVER


# --- refusals -----------------------------------------------------------------------------
def test_a_refusal_shuts_and_cuts() -> None:
    gauge = refused(Limit(key="api"), FRESH, held=10, retry_after_s=12.0, now=NOW)

    assert gauge == Gauge(shut_until=NOW + 12.0, ceiling=8.0, ceiling_at=NOW + 12.0)


def test_within_a_cooldown_a_refusal_only_shuts() -> None:
    limit = Limit(key="api")
    first = refused(limit, FRESH, held=10, retry_after_s=1.0, now=NOW)

    second = refused(limit, first, held=9, retry_after_s=5.0, now=NOW + 2.0)

    assert (second.shut_until, second.ceiling) == (NOW + 7.0, 8.0)


def test_a_shorter_refusal_does_not_open_sooner() -> None:
    limit = Limit(key="api")
    first = refused(limit, FRESH, held=10, retry_after_s=100.0, now=NOW)

    assert refused(limit, first, held=9, retry_after_s=1.0, now=NOW).shut_until == NOW + 100.0


@given(st.integers(1, 1000), st.integers(1, 30))
def test_however_often_it_is_refused_one_may_run(held: int, refusals: int) -> None:
    limit, gauge, now = Limit(key="api"), FRESH, NOW
    for _ in range(refusals):
        gauge = refused(limit, gauge, held=held, retry_after_s=1.0, now=now)
        now += CUT_COOLDOWN_S + 1.0

    assert ceiling(limit, gauge, now=gauge.shut_until) >= 1


@given(st.integers(1, 1000))
def test_a_ceiling_never_falls_while_nothing_is_refused(held: int) -> None:
    limit = Limit(key="api", concurrency=1000)
    gauge = refused(limit, FRESH, held=held, retry_after_s=1.0, now=NOW)

    grown = [ceiling(limit, gauge, now=NOW + 1.0 + 5.0 * n) for n in range(60)]

    assert all(before <= after for before, after in pairwise(grown))
    assert grown[0] == max(1, int(0.8 * held))
    assert grown[-1] == 1000


def test_a_ceiling_stays_within_the_limit() -> None:
    limit = Limit(key="api", concurrency=5)
    gauge = refused(Limit(key="api"), FRESH, held=100, retry_after_s=0.0, now=NOW)

    assert ceiling(limit, gauge, now=NOW) == 5


# --- as people write them -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("500/m", Rate(500, 60.0)),
        ("200k/m", Rate(200_000, 60.0)),
        ("1.5M/h", Rate(1_500_000, 3600.0)),
        ("50/d", Rate(50, 86_400.0)),
        (" 10 / 30 s ", Rate(10, 30.0)),
        ("0.5/s", Rate(0.5, 1.0)),
    ],
)
def test_a_rate_is_an_amount_in_a_time(text: str, rate: Rate) -> None:
    assert parse_rate(text, name="rate") == rate


@pytest.mark.parametrize("text", ["", "500", "500/", "/m", "-5/m", "5/y", "5/m/m", "five/m", "5 per m"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r'rate=.*"500/m"'):
        parse_rate(text, name="rate")


@pytest.mark.parametrize("text", ["0/m", "5/0s", "0k/d"])
def test_a_rate_that_lets_nothing_pass_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="pause"):
        parse_rate(text, name="rate")


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (Rate(500, 60.0), "500/m"),
        (Rate(10, 30.0), "10/30s"),
        (Rate(0.5, 1.0), "0.5/s"),
        (Rate(1_234_567, 60.0), "1234567/m"),
        (Rate(2e15, 2_000_000.0), "2000000000000000/2000000s"),
        (Rate(0.00001, 1.0), "0.00001/s"),
    ],
)
def test_a_rate_is_shown_as_it_is_written(rate: Rate, text: str) -> None:
    assert rate.text == text


def test_a_rate_beyond_all_counting_is_refused() -> None:
    with pytest.raises(ConfigError, match="what bounds nothing may be left out"):
        parse_rate("9" * 400 + "/m", name="rate")
