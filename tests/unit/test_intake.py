"""How much a child claims, and in which order it asks the queues."""

from __future__ import annotations

from cicely.core.intake import BUFFER_S, Paces, Turns


def test_a_task_that_never_ran_is_not_claimed_ahead():
    assert not Paces().is_short("a")


def test_a_task_whose_recent_runs_were_short_is_claimed_ahead():
    paces = Paces()
    paces.ran("a", 0.001)

    assert paces.is_short("a")
    assert list(paces.short()) == ["a"]


def test_one_long_run_ends_claiming_ahead():
    paces = Paces()
    for seconds in (0.001, 0.001, BUFFER_S * 2):
        paces.ran("a", seconds)

    assert not paces.is_short("a")
    assert paces.short() == {}


def test_a_long_run_is_forgotten_after_sixteen_short_ones():
    paces = Paces()
    paces.ran("a", 10.0)
    for _ in range(16):
        paces.ran("a", 0.001)

    assert paces.is_short("a")


def test_the_expected_time_is_the_mean_of_the_recent_runs():
    paces = Paces()
    paces.ran("a", 0.002)
    paces.ran("a", 0.004)

    assert paces.short() == {"a": 0.003}


def test_strict_queues_are_always_asked_in_their_order():
    turns = Turns([[("high", 1.0)], [("low", 1.0)]])

    assert [turns.next() for _ in range(3)] == [("high", "low")] * 3


def test_equal_queues_take_turns():
    turns = Turns([[("a", 1.0), ("b", 1.0)]])

    assert [turns.next()[0] for _ in range(4)] == ["a", "b", "a", "b"]


def test_weighted_queues_are_asked_first_in_proportion_and_mixed():
    turns = Turns([[("high", 3.0), ("batch", 1.0)]])

    assert "".join(turns.next()[0][0] for _ in range(8)) == "hhbhhhbh"


def test_every_queue_is_asked_in_every_claim():
    turns = Turns([[("a", 5.0), ("b", 1.0)], [("c", 1.0)]])

    assert all(sorted(turns.next()) == ["a", "b", "c"] for _ in range(10))
