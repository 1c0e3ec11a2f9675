"""A broken edge cancels what comes after it, names the cause, and failure passes through."""

from __future__ import annotations

from itertools import pairwise

from cicely.core.edge import Edge, ParentEnd, Role, Rule
from cicely.core.outcome import Failed, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Engine
from cicely.testing.conformance.bench import (
    beat,
    counts,
    demand,
    ids,
    job,
    look,
    session,
    settle,
    state_of,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness

MANY = 700


def fail_first(engine: Engine) -> None:
    """Claim one job and fail it for good."""
    settle(engine, Failed(take_one(engine).token, "error", b"why"))


def chain(*names: str) -> list[Edge]:
    """Return the edges of a chain of jobs."""
    return [Edge(before, after) for before, after in pairwise(names)]


def finish_sweeping(engine: Engine) -> None:
    """Sweep until there is nothing more to do."""
    for _ in range(200):
        if not engine.sweep(100).more:
            return
    raise AssertionError("200 sweeps were not enough")


def test_a_failure_cancels_all_that_comes_after_it(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"], chain(*"abc"))

    fail_first(engine)

    assert [state_of(engine, name) for name in "abc"] == [State.FAILED, State.CANCELLED, State.CANCELLED]
    assert counts(engine) == {State.FAILED: 1, State.CANCELLED: 2}


def test_the_reason_names_the_job_that_failed(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"], chain(*"abc"))

    fail_first(engine)

    assert (look(engine, "c").cause, look(engine, "c").reason) == ("a", "job a failed")


def test_the_reason_names_the_job_that_was_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id=name) for name in "abc"], chain(*"abc"))

    engine.steer("cancel", ["a"], reason="by hand")

    assert (look(engine, "a").cause, look(engine, "a").reason) == ("", "by hand")
    assert (look(engine, "c").cause, look(engine, "c").reason) == ("a", "job a was cancelled")


def test_failure_passes_through_what_it_cancels(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abce"], [*chain(*"abc"), Edge("c", "e", Rule.FAILURE)])

    fail_first(engine)

    [parent] = take_one(engine).parents
    assert parent == ParentEnd("c", Role.INPUT, State.CANCELLED, error=b"why", cause="a")


def test_cancellation_does_not_pass_as_a_failure(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id=name) for name in "abce"], [*chain(*"abc"), Edge("c", "e", Rule.FAILURE)])

    engine.steer("cancel", ["a"])

    assert state_of(engine, "e") is State.CANCELLED


def test_what_was_to_come_after_a_failure_is_cancelled_by_success(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    edges = [Edge("a", "e", Rule.FAILURE), Edge("e", "f"), Edge("e", "g", Rule.FAILURE)]
    engine.enqueue([job(id=name) for name in "aefg"], edges)

    settle(engine, Succeeded(take_one(engine).token))

    assert [state_of(engine, name) for name in "efg"] == [State.CANCELLED] * 3
    assert look(engine, "e").reason == "job a succeeded, and this one was to come after its failure"


def test_a_finaliser_runs_whatever_happens(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abz"], [*chain(*"ab"), Edge("b", "z", Rule.DONE)])

    fail_first(engine)

    assert state_of(engine, "z") is State.READY


def test_a_failed_member_cancels_the_join_at_once_and_its_siblings_run_on(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"], [Edge("a", "c"), Edge("b", "c")])
    first, second = take(engine, 2)

    settle(engine, Failed(first.token, "error", b"why"))

    assert (state_of(engine, "c"), state_of(engine, "b")) == (State.CANCELLED, State.RUNNING)
    settle(engine, Succeeded(second.token))
    assert (state_of(engine, "c"), look(engine, "c").cause) == (State.CANCELLED, "a")


def test_siblings_are_cancelled_where_the_edge_says_so(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    edges = [Edge(name, "z", cancels_siblings=True) for name in "abc"] + [Edge("d", "c")]
    engine.enqueue([job(id=name) for name in "abdcz"], edges)
    first, second = take(engine, 2)

    settle(engine, Failed(first.token, "error", b"why"))
    finish_sweeping(engine)

    assert beat(engine, second).cancelled == (second.token,)
    assert [state_of(engine, name) for name in "cdz"] == [State.CANCELLED] * 3
    assert [look(engine, name).cause for name in "cdz"] == ["a"] * 3
    settle(engine, Succeeded(second.token))
    assert (state_of(engine, "b"), look(engine, "b").reason) == (State.CANCELLED, "job a failed")


def test_one_that_is_cancelled_because_another_expired_does_not_expire_as_well(harness: Harness) -> None:
    engine = harness.engine()
    edges = [Edge(name, "z", cancels_siblings=True) for name in "ab"]
    engine.enqueue([job(id="a", expires_s=10), job(id="b", expires_s=10), job(id="z")], edges)
    harness.advance(11)

    sweep(engine)

    assert [state_of(engine, name) for name in "abz"] == [State.EXPIRED, State.CANCELLED, State.CANCELLED]
    assert counts(engine) == {State.EXPIRED: 1, State.CANCELLED: 2}


def test_a_failure_reaches_hundreds_in_pages(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    names = [f"n{n}" for n in range(MANY)]
    engine.enqueue([job(id="a"), *(job(id=name) for name in names)], [Edge("a", name) for name in names])

    fail_first(engine)
    finish_sweeping(engine)

    assert counts(engine) == {State.FAILED: 1, State.CANCELLED: MANY}


def test_a_success_releases_hundreds_in_pages(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    names = [f"n{n}" for n in range(MANY)]
    engine.enqueue([job(id="a"), *(job(id=name) for name in names)], [Edge("a", name) for name in names])

    settle(engine, Succeeded(take_one(engine).token))
    finish_sweeping(engine)

    assert counts(engine) == {State.SUCCEEDED: 1, State.READY: MANY}


def test_a_failure_reaches_the_end_of_a_long_chain(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    names = [f"n{n}" for n in range(MANY)]
    engine.enqueue([job(id=name) for name in names], chain(*names))

    fail_first(engine)
    finish_sweeping(engine)

    assert counts(engine) == {State.FAILED: 1, State.CANCELLED: MANY - 1}
    assert look(engine, names[-1]).cause == names[0]


def test_hundreds_of_parents_release_one_join(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    names = [f"n{n}" for n in range(MANY)]
    engine.enqueue([job(id="z"), *(job(id=name) for name in names)], [Edge(name, "z") for name in names])
    while claims := take(engine, 200):
        if claims[0].job_id == "z":
            break
        engine.settle("s", [Succeeded(claim.token) for claim in claims])
    sweep(engine)

    assert [claim.job_id for claim in claims] == ["z"]
    assert claims[0].joins == MANY


def test_who_asks_again_when_told_to_finds_all_that_an_end_lets_go(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    names = [f"n{n}" for n in range(MANY)]
    engine.enqueue([job(id=name) for name in ("a", *names)], [Edge("a", name) for name in names])
    settle(engine, Succeeded(take_one(engine).token))

    found: list[str] = []
    for _ in range(MANY):
        intake = engine.claim("s", demand(MANY))
        found += ids(intake)
        if intake.next_due_in_s is None:
            break
        # There is more to do, and no instant to wait for.
        assert intake.next_due_in_s == 0.0

    assert sorted(found) == sorted(names)
