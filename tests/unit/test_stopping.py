"""How far a worker's stop has come, second by second."""

from __future__ import annotations

from cicely.worker.stopping import WRAP_UP_S, Stop

GRACE_S = 10.0


def test_nothing_ends_before_a_stop_was_asked_for():
    stop = Stop(GRACE_S)

    assert not stop.is_on
    assert not stop.asks_to_wrap_up(1e9)
    assert not stop.kills(1e9)


def test_jobs_run_on_for_the_grace_and_are_then_asked_once_to_wrap_up():
    stop = Stop(GRACE_S)

    assert stop.ask(100.0)

    assert not stop.asks_to_wrap_up(100.0 + GRACE_S)
    assert stop.asks_to_wrap_up(100.1 + GRACE_S)
    assert not stop.asks_to_wrap_up(100.2 + GRACE_S)


def test_what_has_not_wrapped_up_in_time_is_killed():
    stop = Stop(GRACE_S)
    stop.ask(100.0)

    assert not stop.kills(100.0 + GRACE_S + WRAP_UP_S)
    assert stop.kills(100.1 + GRACE_S + WRAP_UP_S)


def test_a_second_request_leaves_no_time():
    stop = Stop(GRACE_S)
    stop.ask(100.0)

    assert not stop.ask(100.1)

    assert stop.kills(100.1)


def test_who_has_jobs_to_give_back_asks_an_engine_that_does_not_answer_for_longer():
    stop = Stop(GRACE_S)
    leaving_s = stop.farewell_s

    stop.owing.add("child")
    owing_s = stop.farewell_s
    stop.owing.discard("child")

    assert owing_s > 2 * leaving_s
    assert stop.farewell_s == leaving_s
