"""When a failed attempt is followed by another, and after how long."""

import pytest

from cicely.core.retry import (
    ON_REQUEST,
    OutOfMemory,
    Retry,
    RetryLater,
    StallTimeout,
    Timeout,
    retry_in_s,
)
from cicely.errors import ConfigError


def waits(rule: Retry, error: BaseException, *, chance: float = 1.0) -> list[float]:
    """Return the waits between the attempts of a job that always ends in `error`."""
    found: list[float] = []
    for errors in range(100):
        wait_s = retry_in_s(error, rule, errors=errors, chance=chance)
        if wait_s is None:
            return found
        found.append(wait_s)
    raise AssertionError("it is retried for ever")


def test_four_attempts_wait_three_times_and_double_each_time() -> None:
    assert waits(Retry(attempts=4, backoff=60), ValueError()) == [60, 120, 240]


def test_one_attempt_is_never_retried() -> None:
    assert waits(Retry(attempts=1), ValueError()) == []


def test_a_factor_of_one_waits_alike() -> None:
    assert waits(Retry(attempts=4, backoff=7, factor=1), ValueError()) == [7, 7, 7]


def test_the_last_wait_of_a_list_is_repeated() -> None:
    assert waits(Retry(attempts=5, backoff=[1, 5]), ValueError()) == [1, 5, 5, 5]


def test_a_function_is_asked_for_the_attempt_that_failed() -> None:
    rule = Retry(attempts=4, backoff=lambda attempt: attempt * 10)

    assert waits(rule, ValueError()) == [10, 20, 30]


def test_no_wait_is_longer_than_the_longest() -> None:
    rule = Retry(attempts=5, backoff=60, max_delay=100)

    assert waits(rule, ValueError()) == [60, 100, 100, 100]


def test_the_thousandth_attempt_has_a_wait() -> None:
    assert Retry(attempts=5000, backoff=60, max_delay=3600).delay_s(5000) == 3600
    assert 1e10 < Retry(attempts=5000, backoff=60).delay_s(5000) < 1e11


def test_there_is_no_jitter_unless_it_is_asked_for() -> None:
    rule = Retry(attempts=4, backoff=60)

    assert waits(rule, ValueError(), chance=0.0) == waits(rule, ValueError(), chance=0.9)


def test_half_a_jitter_waits_at_least_half() -> None:
    rule = Retry(attempts=2, backoff=60, jitter=0.5)

    assert waits(rule, ValueError(), chance=0.0) == [30]
    assert waits(rule, ValueError(), chance=0.5) == [45]


def test_a_whole_jitter_may_not_wait_at_all() -> None:
    assert waits(Retry(attempts=2, backoff=60, jitter=1), ValueError(), chance=0.0) == [0]


def test_jitter_is_taken_from_the_bounded_wait() -> None:
    rule = Retry(attempts=2, backoff=600, max_delay=100, jitter=0.5)

    assert waits(rule, ValueError(), chance=0.0) == [50]


def test_without_a_rule_nothing_is_retried() -> None:
    assert retry_in_s(ValueError(), None, errors=0, chance=1.0) is None


def test_only_errors_that_are_named_are_retried() -> None:
    rule = Retry(on=ConnectionError, backoff=1)

    assert waits(rule, ConnectionResetError()) == [1, 2, 4]
    assert waits(rule, ValueError()) == []


def test_several_errors_may_be_named() -> None:
    rule = Retry(on=(ConnectionError, KeyError), attempts=2, backoff=1)

    assert waits(rule, KeyError()) == [1]


@pytest.mark.parametrize("several", [[KeyError, OSError], {KeyError, OSError}, (KeyError, OSError)])
def test_errors_may_be_named_in_any_collection(several) -> None:
    assert waits(Retry(on=several, attempts=2, backoff=1), KeyError()) == [1]
    assert waits(Retry(give_up_on=several, attempts=2, backoff=1), KeyError()) == []


@pytest.mark.parametrize("wrong", ["ValueError", [ValueError()], ["ValueError"], [int], None, 3])
def test_what_is_no_error_is_refused_where_it_is_named(wrong) -> None:
    with pytest.raises(ConfigError, match="Retry"):
        Retry(on=wrong)
    with pytest.raises(ConfigError, match="Retry"):
        Retry(give_up_on=wrong)


@pytest.mark.parametrize("wait_s", [-1.0, float("nan"), float("inf"), 1e18])
def test_a_function_that_returns_no_wait_is_refused(wait_s) -> None:
    with pytest.raises(ConfigError, match="not a wait"):
        Retry(backoff=lambda attempt: wait_s).delay_s(1)


def test_giving_up_comes_before_retrying() -> None:
    rule = Retry(on=OSError, give_up_on=FileNotFoundError, attempts=2, backoff=1)

    assert waits(rule, FileNotFoundError()) == []
    assert waits(rule, PermissionError()) == [1]


@pytest.mark.parametrize("limit", [Timeout, StallTimeout, OutOfMemory])
def test_a_limit_is_final_unless_it_is_named(limit: type[Exception]) -> None:
    assert waits(Retry(attempts=2, backoff=1), limit()) == []
    assert waits(Retry(on=limit, attempts=2, backoff=1), limit()) == [1]


def test_naming_one_limit_does_not_name_the_others() -> None:
    rule = Retry(on=(Exception, Timeout), attempts=2, backoff=1)

    assert waits(rule, Timeout()) == [1]
    assert waits(rule, ValueError()) == [1]
    assert waits(rule, OutOfMemory()) == []


def test_a_job_that_asks_for_a_wait_gets_it() -> None:
    assert waits(Retry(attempts=3, backoff=60), Retry.after(5)) == [5, 5]


def test_a_job_that_asks_without_a_wait_gets_that_of_its_rule() -> None:
    assert waits(Retry(attempts=3, backoff=60), RetryLater()) == [60, 120]


def test_a_job_that_asks_is_retried_whatever_its_rule_names() -> None:
    assert waits(Retry(on=KeyError, attempts=2, backoff=1), RetryLater()) == [1]


def test_a_job_without_a_rule_that_asks_gets_celerys_defaults() -> None:
    found = [retry_in_s(RetryLater(), None, errors=n, chance=1.0) for n in range(4)]

    assert found == [180, 180, 180, None]
    assert ON_REQUEST.attempts == 4


def test_asking_because_of_an_error_to_give_up_on_gives_up() -> None:
    rule = Retry(give_up_on=KeyError, attempts=3, backoff=1)

    assert waits(rule, RetryLater(cause=KeyError())) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"attempts": 0},
        {"attempts": "4"},
        {"attempts": True},
        {"attempts": 2.5},
        {"factor": "2"},
        {"factor": float("nan")},
        {"jitter": 1.5},
        {"jitter": -0.1},
        {"jitter": "some"},
        {"backoff": []},
        {"backoff": "60"},
        {"backoff": -1},
        {"backoff": None},
        {"backoff": [1, "x"]},
        {"max_delay": "long"},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Retry(**settings)


def test_waits_may_be_written_as_people_write_them() -> None:
    assert waits(Retry(attempts=3, backoff="1m", max_delay="90s"), ValueError()) == [60, 90]
    assert waits(Retry(attempts=3, backoff=["5s", 10]), ValueError()) == [5, 10]
    assert waits(Retry(attempts=2), Retry.after("5s")) == [5]


@pytest.mark.parametrize("wait", ["5", -1, float("nan"), None])
def test_what_is_no_wait_cannot_be_asked_for(wait) -> None:
    with pytest.raises(ConfigError, match="seconds="):
        Retry.after(wait)
