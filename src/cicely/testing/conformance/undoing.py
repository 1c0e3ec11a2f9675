"""Reviving a job goes on from there: what was cancelled because of it waits again, successes stay."""

from __future__ import annotations

from cicely.core.edge import Edge, Join, Rule
from cicely.core.outcome import Failed, Stopped, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Engine
from cicely.testing.conformance.bench import (
    ids,
    job,
    look,
    session,
    settle,
    state_of,
    take,
    take_one,
)
from cicely.testing.conformance.cascades import MANY, chain, fail_first, finish_sweeping
from cicely.testing.conformance.harness import Harness

#: `b` comes after `a`, and where `c` cannot run any more, `a` is cancelled because of that.
IN_A_CIRCLE = (
    Edge("a", "b", Rule.DONE),
    Edge("b", "c", cancels_siblings=True),
    Edge("a", "c", cancels_siblings=True),
)


def test_what_was_cancelled_because_of_it_waits_again(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"], chain(*"abc"))
    fail_first(engine)

    assert engine.steer("revive", ["a"]) == ["a"]
    finish_sweeping(engine)

    assert [state_of(engine, name) for name in "abc"] == [State.READY, State.WAITING, State.WAITING]
    assert (look(engine, "b").cause, look(engine, "b").ended_at) == ("", None)
    for name in "abc":
        claim = take_one(engine)
        assert claim.job_id == name
        settle(engine, Succeeded(claim.token))


def test_what_succeeded_is_not_repeated(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"], [Edge("a", "c"), Edge("b", "c")])
    first, second = take(engine, 2)
    settle(engine, Succeeded(first.token, b"kept"))
    settle(engine, Failed(second.token, "error", b"why"))

    engine.steer("revive", ["b"])
    finish_sweeping(engine)

    assert (state_of(engine, "a"), look(engine, "c").pending) == (State.SUCCEEDED, 1)
    settle(engine, Succeeded(take_one(engine).token))
    assert [parent.result for parent in take_one(engine).parents] == [b"kept", b""]


def test_a_join_with_two_failures_waits_for_both_to_be_revived(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"], [Edge("a", "c"), Edge("b", "c")])
    for claim in take(engine, 2):
        settle(engine, Failed(claim.token, "error", b"why"))

    engine.steer("revive", ["a"])
    finish_sweeping(engine)
    assert (state_of(engine, "c"), look(engine, "c").cause) == (State.CANCELLED, "b")

    engine.steer("revive", ["b"])
    finish_sweeping(engine)
    assert (state_of(engine, "c"), look(engine, "c").pending) == (State.WAITING, 2)


def test_a_finaliser_that_ran_runs_again(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abz"], [*chain(*"ab"), Edge("b", "z", Rule.DONE)])
    fail_first(engine)
    settle(engine, Succeeded(take_one(engine).token, b"cleaned"))

    engine.steer("revive", ["a"])
    finish_sweeping(engine)

    assert [state_of(engine, name) for name in "abz"] == [State.READY, State.WAITING, State.WAITING]
    assert look(engine, "z").result == b""


def test_what_came_after_the_finaliser_and_succeeded_stays(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "azy"], [Edge("a", "z", Rule.DONE), Edge("z", "y")])
    fail_first(engine)
    for _ in range(2):
        settle(engine, Succeeded(take_one(engine).token))

    engine.steer("revive", ["a"])
    finish_sweeping(engine)

    assert [state_of(engine, name) for name in "azy"] == [State.READY, State.WAITING, State.SUCCEEDED]


def test_what_a_success_cancelled_stays_while_that_finaliser_runs_again(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    edges = [Edge("a", "z", Rule.DONE), Edge("z", "c", Rule.FAILURE), Edge("a", "c", join=Join.ALL)]
    engine.enqueue([job(id=name) for name in "azc"], edges)
    fail_first(engine)
    settle(engine, Succeeded(take_one(engine).token))
    assert (state_of(engine, "c"), look(engine, "c").cause) == (State.CANCELLED, "z")

    assert engine.steer("revive", ["a"]) == ["a"]
    finish_sweeping(engine)

    assert [state_of(engine, name) for name in "azc"] == [State.READY, State.WAITING, State.CANCELLED]
    assert look(engine, "c").cause == "z"


def test_a_job_whose_own_edges_are_broken_stays(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "ab"], chain(*"ab"))
    fail_first(engine)

    assert engine.steer("revive", ["b"]) == []
    assert state_of(engine, "b") is State.CANCELLED


def test_a_cancelled_job_is_revived_with_all_that_it_took_along(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"], chain(*"abc"))
    engine.steer("cancel", ["b"])

    assert engine.steer("revive", ["b"]) == ["b"]
    finish_sweeping(engine)

    assert [state_of(engine, name) for name in "abc"] == [State.READY, State.WAITING, State.WAITING]
    settle(engine, Succeeded(take_one(engine).token))
    assert ids(take(engine, 5)) == ["b"]


def test_cancelled_siblings_are_revived_with_the_one_that_failed(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    edges = [Edge(name, "z", cancels_siblings=True) for name in "abc"] + [Edge("d", "c")]
    engine.enqueue([job(id=name) for name in "abdcz"], edges)
    first, second = take(engine, 2)
    settle(engine, Failed(first.token, "error", b"why"))
    finish_sweeping(engine)
    settle(engine, Stopped(second.token))

    engine.steer("revive", ["a"])
    finish_sweeping(engine)

    ready, waiting = State.READY, State.WAITING
    assert [state_of(engine, name) for name in "abcdz"] == [ready, ready, waiting, ready, waiting]
    while claims := take(engine, 5):
        engine.settle("s", [Succeeded(claim.token) for claim in claims])
    assert state_of(engine, "z") is State.SUCCEEDED


def test_a_cancelled_sibling_whose_key_another_job_holds_stays(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    edges = [Edge(name, "z", cancels_siblings=True) for name in "ab"]
    engine.enqueue([job(id="a"), job(id="b", unique="key", delay_s=60), job(id="z")], edges)
    fail_first(engine)
    engine.enqueue([job(id="other", unique="key", delay_s=60)])

    engine.steer("revive", ["a"])
    finish_sweeping(engine)

    assert [state_of(engine, name) for name in "ab"] == [State.READY, State.CANCELLED]
    assert state_of(engine, "other") is State.SCHEDULED


def test_a_sibling_that_comes_back_before_its_first_run_waits_its_delay_anew(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    edges = [Edge(name, "z", cancels_siblings=True) for name in "ab"]
    engine.enqueue([job(id="a"), job(id="b", delay_s=60), job(id="z")], edges)
    fail_first(engine)
    harness.advance(100)

    engine.steer("revive", ["a"])
    finish_sweeping(engine)

    assert state_of(engine, "b") is State.SCHEDULED
    assert look(engine, "b").reason == "revived"


def test_a_revived_job_that_fails_again_cancels_again(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"], chain(*"abc"))
    for _ in range(2):
        fail_first(engine)
        engine.steer("revive", ["a"])
        finish_sweeping(engine)

    fail_first(engine)

    assert [state_of(engine, name) for name in "abc"] == [State.FAILED, State.CANCELLED, State.CANCELLED]


def test_a_revived_job_waits_for_one_before_it_that_comes_back_because_of_it(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"], IN_A_CIRCLE)
    engine.steer("cancel", ["b"])

    engine.steer("revive", ["b"])
    finish_sweeping(engine)

    assert [state_of(engine, name) for name in "abc"] == [State.READY, State.WAITING, State.WAITING]
    for name in "abc":
        claim = take_one(engine)
        assert claim.job_id == name
        settle(engine, Succeeded(claim.token))


def test_it_waits_as_well_where_that_one_comes_back_after_hundreds_of_others(harness: Harness) -> None:
    _revive_with_many_between(harness.engine(), 511)


def test_it_waits_as_well_where_that_one_comes_back_at_the_end_of_a_page(harness: Harness) -> None:
    _revive_with_many_between(harness.engine(), 255)


def _revive_with_many_between(engine: Engine, many: int) -> None:
    engine.join(session(id="s"))
    names = _cancel_with_many_between(engine, many)

    engine.steer("revive", ["b"])
    assert state_of(engine, "b") is State.WAITING
    finish_sweeping(engine)

    assert (state_of(engine, "a"), look(engine, "b").pending) == (State.READY, 1)
    assert {state_of(engine, name) for name in ("b", "c", *names)} == {State.WAITING}


def test_it_waits_as_well_where_it_was_cancelled_again_meanwhile(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    _cancel_with_many_between(engine, 511)

    for move in ("revive", "cancel", "revive"):
        assert engine.steer(move, ["b"]) == ["b"]
    assert state_of(engine, "b") is State.WAITING
    finish_sweeping(engine)

    assert (state_of(engine, "a"), look(engine, "b").pending) == (State.READY, 1)


def test_what_comes_back_waits_for_what_comes_back_only_after_hundreds_of_others(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    names = [f"n{n}" for n in range(600)]
    finalisers = [Edge("b", "k", Rule.FAILURE), Edge("k", "d", Rule.DONE), Edge("d", "a", Rule.DONE)]
    edges = [*finalisers, *(Edge("b", name) for name in names)]
    engine.enqueue([job(id=name) for name in ("b", "k", "d", "a", *names)], edges)
    for _ in "bkd":
        fail_first(engine)
        finish_sweeping(engine)
    # Too late for `b`: `c` is cancelled, and `a` before it.
    siblings = [Edge(name, "c", cancels_siblings=True) for name in "ba"]
    engine.enqueue([job(id="c")], siblings)
    finish_sweeping(engine)
    assert (state_of(engine, "a"), look(engine, "a").cause) == (State.CANCELLED, "b")

    engine.steer("revive", ["b"])
    finish_sweeping(engine)

    assert state_of(engine, "b") is State.READY
    assert {state_of(engine, name) for name in ("k", "d", "a", "c", *names)} == {State.WAITING}


def _cancel_with_many_between(engine: Engine, many: int) -> list[str]:
    """Cancel `b` with so many behind it before the one that cancels `a`; return their names.

    One less than a multiple of 256: engines that go by such pages begin a new one between these two.
    """
    names = [f"n{n}" for n in range(many)]
    edges = [*(Edge("b", name) for name in names), *IN_A_CIRCLE]
    engine.enqueue([job(id=name) for name in ("a", "b", "c", *names)], edges)
    engine.steer("cancel", ["b"])
    finish_sweeping(engine)
    assert state_of(engine, "a") is State.CANCELLED
    return names


def test_a_revived_job_between_others_does_not_wait_its_delay_anew(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b", delay_s=60), job(id="c")], chain(*"abc"))
    settle(engine, Succeeded(take_one(engine).token))
    engine.steer("cancel", ["b"])

    engine.steer("revive", ["b"])
    finish_sweeping(engine)

    assert [state_of(engine, name) for name in "bc"] == [State.READY, State.WAITING]
    assert ids(take(engine)) == ["b"]


def test_hundreds_come_back_in_pages(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    names = [f"n{n}" for n in range(MANY)]
    engine.enqueue(
        [job(id=name) for name in ("a", "b", *names)], [Edge("a", "b"), *(Edge("b", n) for n in names)]
    )
    fail_first(engine)
    finish_sweeping(engine)

    engine.steer("revive", ["a"])
    finish_sweeping(engine)

    assert {state_of(engine, name) for name in ("b", *names)} == {State.WAITING}
    settle(engine, Succeeded(take_one(engine).token))
    settle(engine, Succeeded(take_one(engine).token))
    finish_sweeping(engine)
    assert {state_of(engine, name) for name in names} == {State.READY}
