"""What the comparison says of several runs: medians, spreads, percentiles, and who is ahead."""

from benchmarks.compare.statistics import NEVER, Spread, best_of, paired, percentile, verdict
from benchmarks.targets import Better


def test_a_spread_is_the_median_between_the_least_and_the_most() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]

    assert percentile(values, 50) == 51.0
    assert percentile(values, 99) == 100.0
    assert percentile([7.0], 99) == 7.0


def test_the_best_has_the_highest_rate_or_the_lowest_cost() -> None:
    values = {"a": [1.0, 9.0, 2.0], "b": [3.0, 3.0, 3.0]}

    assert best_of(values, Better.MORE) == "b"
    assert best_of(values, Better.LESS) == "a"


def test_a_ratio_compares_what_was_measured_in_the_same_run() -> None:
    assert paired([2.0, 30.0], [1.0, 10.0]) == Spread(2.5, 2.0, 3.0)
    assert paired([1.0], [0.0]) is None
    assert paired([1.0], [NEVER]) is None


def test_who_is_ahead_in_each_run_is_ahead() -> None:
    assert verdict(Spread(2.0, 1.1, 3.0), Better.MORE) == "ahead"
    assert verdict(Spread(2.0, 1.1, 3.0), Better.LESS) == "behind"
    assert verdict(Spread(0.5, 0.4, 0.9), Better.LESS) == "ahead"


def test_nobody_is_ahead_where_the_runs_do_not_agree() -> None:
    assert verdict(Spread(1.2, 0.9, 1.5), Better.MORE) == "even"
