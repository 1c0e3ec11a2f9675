"""The key by which a queue orders its ready jobs, and the number of an attempt."""

import pytest

from cicely.core.job import Filter, Job, Kind, Tallies, rank
from cicely.core.states import State

NOW = 1_900_000_000.0
CENTURY_S = 100 * 365 * 86_400.0


def test_an_earlier_job_goes_first() -> None:
    assert rank(5, NOW, ageing_s=0) < rank(5, NOW + 0.001, ageing_s=0)


def test_a_higher_priority_goes_first() -> None:
    ranks = [rank(priority, NOW, ageing_s=0) for priority in range(10)]

    assert ranks == sorted(ranks, reverse=True)


def test_a_century_of_waiting_does_not_outweigh_a_strict_priority() -> None:
    assert rank(9, NOW + CENTURY_S, ageing_s=0) < rank(8, NOW, ageing_s=0)


def test_with_ageing_waiting_outweighs_a_step_in_its_time() -> None:
    waited = rank(4, NOW, ageing_s=60)

    assert rank(5, NOW + 59, ageing_s=60) < waited < rank(5, NOW + 61, ageing_s=60)


def test_with_ageing_nine_steps_take_nine_times_as_long() -> None:
    waited = rank(0, NOW, ageing_s=60)

    assert rank(9, NOW + 539, ageing_s=60) < waited < rank(9, NOW + 541, ageing_s=60)


@pytest.mark.parametrize("ageing_s", [0.0, 60.0])
@pytest.mark.parametrize("priority", [0, 9])
def test_a_rank_fits_into_eight_bytes(priority: int, ageing_s: float) -> None:
    highest = rank(priority, NOW + CENTURY_S, ageing_s=ageing_s)

    assert -(2**63) <= rank(priority, 0.0, ageing_s=ageing_s) <= highest < 2**63


def test_the_first_attempt_is_number_one() -> None:
    assert Tallies().attempt == 1


def test_every_kind_of_failure_counts_as_an_attempt() -> None:
    assert Tallies(errors=2, crashes=1, lost=3).attempt == 7


JOB = Job(
    id="a",
    task="work",
    kind=Kind.SYNC,
    queue="main",
    state=State.READY,
    tags=("red", "blue"),
    created_at=NOW,
)


@pytest.mark.parametrize(
    "where",
    [
        Filter(),
        Filter(states=(State.FAILED, State.READY)),
        Filter(task="work"),
        Filter(queue="main"),
        Filter(tag="blue"),
        Filter(since=NOW),
        Filter(until=NOW + 1),
        Filter(task="work", queue="main", tag="red", since=NOW - 1, until=NOW + 1),
    ],
)
def test_a_filter_finds_the_job(where: Filter) -> None:
    assert where.matches(JOB)


@pytest.mark.parametrize(
    "where",
    [
        Filter(states=(State.FAILED,)),
        Filter(task="wor"),
        Filter(queue="mai"),
        Filter(tag="re"),
        Filter(since=NOW + 1),
        Filter(until=NOW),
        Filter(task="work", queue="other"),
    ],
)
def test_a_filter_passes_the_job_over(where: Filter) -> None:
    assert not where.matches(JOB)
