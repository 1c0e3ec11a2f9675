"""The simulated cluster: what it is given decides what it does, and its ends are known without it."""

import argparse

import pytest
from benchmarks.instructions import refs_of
from benchmarks.scaling.cluster import Costs, fitted, jobs_per_s, saturation
from benchmarks.scaling.command import numbers_in

COSTS = Costs(call_us=100.0, job_us=10.0, worker_us=20.0, way_us=50.0, batch=50.0)


def test_one_worker_does_what_its_own_steps_take() -> None:
    round_us = 50 * 20.0 + 100.0 + 50 * 10.0 + 50.0

    assert jobs_per_s(COSTS, 1) == pytest.approx(50 / round_us * 1e6, rel=0.02)


def test_many_workers_do_what_the_engine_can_do() -> None:
    ceiling = COSTS.ceiling(0.0, units=1)

    assert ceiling == pytest.approx(1e6 / (10.0 + 100.0 / 50))
    assert jobs_per_s(COSTS, 64) == pytest.approx(ceiling, rel=0.02)
    assert jobs_per_s(COSTS, 64, units=4) == pytest.approx(4 * ceiling, rel=0.02)


def test_long_jobs_travel_alone_and_grow_with_the_workers() -> None:
    assert COSTS.batch_of(0.1) == 1
    assert jobs_per_s(COSTS, 32, work_s=0.1) == pytest.approx(320, rel=0.03)


def test_longer_jobs_saturate_an_engine_later() -> None:
    no_ops, short = saturation(COSTS), saturation(COSTS, work_s=0.001)

    assert no_ops < short < saturation(COSTS, work_s=0.1)


def test_the_cost_of_a_call_and_of_a_job_are_told_apart_by_batches_of_several_sizes() -> None:
    points = [(size, 10.0 + 300.0 / size) for size in (1.0, 10.0, 200.0)]

    call, job = fitted(points)

    assert call == pytest.approx(300.0)
    assert job == pytest.approx(10.0)


def test_no_cost_is_below_nothing() -> None:
    assert fitted([(10.0, 5.0), (10.0, 7.0)]) == (0.0, 6.0)
    assert fitted([(1.0, 5.0), (10.0, 9.0)])[0] == 0.0
    assert fitted([(1.0, 100.0), (2.0, 10.0), (3.0, 10.0)])[1] == 0.0


def test_numbers_rise() -> None:
    assert numbers_in("1,10,100") == [1, 10, 100]
    for wrong in ("10,1", "1,1", "0,1", "ten"):
        with pytest.raises(argparse.ArgumentTypeError):
            numbers_in(wrong)


def test_valgrind_is_read() -> None:
    assert refs_of("==1== \n==1== I   refs:      70,117,653\n") == 70_117_653
    with pytest.raises(ValueError, match="no count"):
        refs_of("==1== nothing")
