"""A job that comes after others waits for them, and is released by the last one's end."""

from __future__ import annotations

from cicely.core.edge import INLINE_PARENTS, Edge, Join, ParentEnd, Role, Rule
from cicely.core.outcome import Failed, HandedBack, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Engine, Verdict
from cicely.errors import JobNotFound
from cicely.testing.conformance.bench import (
    counts,
    demand,
    ids,
    job,
    look,
    near,
    refused,
    session,
    settle,
    state_of,
    succeed,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness

#: A job behind "a" for each rule.
AFTER = [job(id=f"by {rule}") for rule in Rule]
EACH_RULE = [Edge("a", f"by {rule}", rule) for rule in Rule]


def released(engine: Engine) -> list[str]:
    """Return which of AFTER are ready; the others must have been cancelled."""
    ready = [new.id for new in AFTER if state_of(engine, new.id) is State.READY]
    assert all(state_of(engine, new.id) is State.CANCELLED for new in AFTER if new.id not in ready)
    return ready


def test_a_job_after_another_waits(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b")], [Edge("a", "b")])

    assert ids(take(engine, 5)) == ["a"]
    assert (state_of(engine, "b"), look(engine, "b").pending) == (State.WAITING, 1)
    assert counts(engine) == {State.RUNNING: 1, State.WAITING: 1}


def test_success_releases_what_waits_for_it(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="b"), job(id="a")], [Edge("a", "b")])
    claim = take_one(engine)

    settle(engine, Succeeded(claim.token, b"seven"))

    assert (state_of(engine, "b"), look(engine, "b").pending) == (State.READY, 0)
    assert counts(engine) == {State.SUCCEEDED: 1, State.READY: 1}


def test_a_settle_may_claim_the_job_that_it_releases(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b")], [Edge("a", "b")])
    claim = take_one(engine)

    settled = engine.settle("s", [Succeeded(claim.token)], demand())

    assert ids(settled.intake) == ["b"]


def test_successes_that_are_settled_together_release_what_each_leads_to(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    before = [job(id=name) for name in "abc"]
    edges = [Edge("a", "z"), Edge("b", "z"), Edge("b", "y"), Edge("c", "x"), Edge("w", "x")]
    engine.enqueue([*before, job(id="z"), job(id="y"), job(id="x"), job(id="w")], edges)
    claims = take(engine, 3)

    engine.settle("s", [Succeeded(claim.token) for claim in claims])

    assert [state_of(engine, name) for name in "zyx"] == [State.READY, State.READY, State.WAITING]
    assert look(engine, "x").pending == 1


def test_a_success_that_also_cancels_is_settled_with_one_that_does_not(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    edges = [Edge("a", "z"), Edge("a", "y", Rule.FAILURE), Edge("b", "z"), Edge("c", "z")]
    engine.enqueue([job(id=name) for name in "abczy"], edges)
    claims = take(engine, 3)

    engine.settle("s", [Succeeded(claim.token) for claim in claims])

    assert (state_of(engine, "y"), state_of(engine, "z")) == (State.CANCELLED, State.READY)


def test_a_failure_between_two_successes_cancels_what_all_lead_to(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    edges = [Edge(name, "z", cancels_siblings=True) for name in "abc"]
    engine.enqueue([job(id=name) for name in "abcz"], edges)
    a, b, c = take(engine, 3)

    engine.settle("s", [Succeeded(a.token), Failed(b.token, "error", b"why"), Succeeded(c.token)])

    states = [state_of(engine, name) for name in "abcz"]
    assert states == [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.CANCELLED]
    assert look(engine, "z").pending == 0


def test_a_join_of_all_ends_with_the_failure_that_is_settled_between_successes(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    edges = [Edge("a", "z", join=Join.ALL), Edge("b", "z", join=Join.ALL)]
    engine.enqueue([job(id=name) for name in "abcz"], edges)
    a, b, c = take(engine, 3)

    engine.settle("s", [Succeeded(a.token), Failed(b.token, "error", b"why"), Succeeded(c.token)])

    assert state_of(engine, "z") is State.CANCELLED


def test_the_claim_says_how_the_parents_ended(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")], [Edge("b", "c"), Edge("a", "c", role=Role.ORDER)])
    results = {"a": b"from a", "b": b"from b"}
    for claim in take(engine, 5):
        settle(engine, Succeeded(claim.token, results[claim.job_id]))

    claim = take_one(engine)

    assert claim.joins == 2
    assert claim.parents == (
        ParentEnd("b", Role.INPUT, State.SUCCEEDED, result=b"from b"),
        ParentEnd("a", Role.ORDER, State.SUCCEEDED, result=b"from a"),
    )
    assert engine.parents("c") == list(claim.parents)


def test_a_plain_job_has_no_parents(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])

    claim = take_one(engine)

    assert (claim.joins, claim.parents, engine.parents("a")) == (0, (), [])


def test_many_parents_are_read_in_pages(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    names = [f"p{n:02}" for n in range(INLINE_PARENTS + 1)]
    engine.enqueue([job(id="c"), *(job(id=name) for name in names)], [Edge(name, "c") for name in names])
    for claim in take(engine, 50):
        settle(engine, Succeeded(claim.token, claim.job_id.encode()))

    claim = take_one(engine)

    assert (claim.joins, claim.parents) == (INLINE_PARENTS + 1, ())
    pages = engine.parents("c", limit=10) + engine.parents("c", after=10, limit=10)
    assert [(end.id, end.result) for end in pages] == [(name, name.encode()) for name in names]


def test_the_last_of_several_parents_releases(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")], [Edge("a", "c"), Edge("b", "c")])
    first, second = take(engine, 2)

    settle(engine, Succeeded(first.token))
    assert (state_of(engine, "c"), look(engine, "c").pending) == (State.WAITING, 1)
    settle(engine, Succeeded(second.token))

    assert state_of(engine, "c") is State.READY


def test_parents_that_end_in_one_call_release_once(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")], [Edge("a", "c"), Edge("b", "c")])

    engine.settle("s", [Succeeded(claim.token) for claim in take(engine, 2)])

    assert ids(take(engine, 5)) == ["c"]


def test_a_repeated_outcome_releases_nothing_twice(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")], [Edge("a", "b"), Edge("b", "c")])
    claim = take_one(engine)
    settle(engine, Succeeded(claim.token))
    second = take_one(engine)

    assert settle(engine, Succeeded(claim.token)) is Verdict.ALREADY
    assert ids([second]) == ["b"]
    assert (state_of(engine, "b"), state_of(engine, "c")) == (State.RUNNING, State.WAITING)


def test_a_stale_outcome_releases_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b")], [Edge("a", "b")])
    claim = take_one(engine)
    settle(engine, HandedBack(claim.token))

    assert settle(engine, Succeeded(claim.token)) is Verdict.STALE
    assert state_of(engine, "b") is State.WAITING


def test_a_retry_releases_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b")], [Edge("a", "b", Rule.FAILURE)])

    settle(engine, Failed(take_one(engine).token, "error", b"why", retry_in_s=60))

    assert state_of(engine, "b") is State.WAITING


def test_each_rule_on_a_success(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), *AFTER], EACH_RULE)

    settle(engine, Succeeded(take_one(engine).token))

    assert released(engine) == ["by success", "by done"]


def test_each_rule_on_a_failure(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), *AFTER], EACH_RULE)

    settle(engine, Failed(take_one(engine).token, "error", b"why"))

    assert released(engine) == ["by failure", "by done"]


def test_what_comes_after_a_failure_is_told_the_error(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b")], [Edge("a", "b", Rule.FAILURE)])
    settle(engine, Failed(take_one(engine).token, "error", b"why"))

    [parent] = take_one(engine).parents

    assert parent == ParentEnd("a", Role.INPUT, State.FAILED, error=b"why")


def test_each_rule_on_a_cancellation(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a"), *AFTER], EACH_RULE)

    engine.steer("cancel", ["a"])

    assert released(engine) == ["by done"]


def test_each_rule_on_an_expiry(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", expires_s=10), *AFTER], EACH_RULE)
    harness.advance(11)

    sweep(engine)

    assert released(engine) == ["by failure", "by done"]


def test_a_failure_by_rescue_decides_as_any_other(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b")], [Edge("a", "b")])
    claim = take_one(engine)

    engine.retire("s", [Failed(claim.token, "error", b"why")])

    assert state_of(engine, "b") is State.CANCELLED


def test_an_edge_out_of_an_ended_job_is_decided_at_once(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a"))

    engine.enqueue([job(id="b"), job(id="c")], [Edge("a", "b"), Edge("a", "c", Rule.FAILURE)])

    assert (state_of(engine, "b"), state_of(engine, "c")) == (State.READY, State.CANCELLED)
    assert ids(take(engine, 5)) == ["b"]


def test_edges_may_come_later_than_a_job_that_waits(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="c")], [Edge("a", "c")])
    engine.enqueue([job(id="b")], [Edge("b", "c")])
    first, second = take(engine, 2)

    settle(engine, Succeeded(first.token))
    assert state_of(engine, "c") is State.WAITING
    settle(engine, Succeeded(second.token))

    assert state_of(engine, "c") is State.READY


def test_an_edge_into_a_job_that_waits_no_more_changes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])

    engine.enqueue([job(id="b")], [Edge("b", "a")])

    assert (state_of(engine, "a"), look(engine, "a").pending) == (State.READY, 0)
    assert engine.parents("a") == []


def test_a_repeated_enqueue_adds_no_edge_twice(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    jobs = [job(id="a"), job(id="b")]
    engine.enqueue(jobs, [Edge("a", "b")])

    answers = engine.enqueue(jobs, [Edge("a", "b")])

    assert not any(answer.fresh for answer in answers)
    assert look(engine, "b").pending == 1
    settle(engine, Succeeded(take_one(engine).token))
    assert state_of(engine, "b") is State.READY


def test_an_edge_from_nowhere_is_refused_and_nothing_is_stored(harness: Harness) -> None:
    engine = harness.engine()

    with refused(JobNotFound):
        engine.enqueue([job(id="a")], [Edge("nobody", "a")])
    with refused(JobNotFound):
        engine.enqueue([job(id="a")], [Edge("a", "nobody")])

    assert engine.get(["a"]) == [None]


def test_edges_follow_the_job_that_stands_for_one(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="old", unique="key")])

    engine.enqueue([job(id="new", unique="key"), job(id="b")], [Edge("new", "b")])

    assert state_of(engine, "b") is State.WAITING
    settle(engine, Succeeded(take_one(engine).token, b"of the old one"))
    [parent] = take_one(engine).parents
    assert (parent.id, parent.result) == ("old", b"of the old one")


def test_the_delay_of_a_job_that_waits_counts_from_its_release(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b", delay_s=60)], [Edge("a", "b")])
    harness.advance(100)
    sweep(engine)
    assert look(engine, "b").due_at is None
    claim = take_one(engine)

    settle(engine, Succeeded(claim.token))

    released_at = look(engine).ended_at or 0.0
    assert state_of(engine, "b") is State.SCHEDULED
    assert near(look(engine, "b").due_at, released_at + 60)
    harness.advance(61)
    assert ids(take(engine, 5)) == ["b"]


def test_a_job_that_waits_does_not_expire_before_its_release(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b", expires_s=10)], [Edge("a", "b")])
    harness.advance(100)
    sweep(engine)
    settle(engine, Succeeded(take_one(engine).token))

    assert state_of(engine, "b") is State.READY
    harness.advance(11)
    sweep(engine)
    assert state_of(engine, "b") is State.EXPIRED


def test_a_released_job_is_ranked_by_its_release(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b")], [Edge("a", "b")])
    claim = take_one(engine)
    harness.advance(1)
    engine.enqueue([job(id="c")])
    harness.advance(1)

    settle(engine, Succeeded(claim.token))

    assert ids(take(engine, 5)) == ["c", "b"]


def test_a_join_may_wait_for_all_before_it_gives_up(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    edges = [Edge("a", "c", join=Join.ALL), Edge("b", "c", join=Join.ALL)]
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")], edges)
    first, second = take(engine, 2)

    settle(engine, Failed(first.token, "error", b"why"))
    assert state_of(engine, "c") is State.WAITING
    settle(engine, Succeeded(second.token))

    assert (state_of(engine, "c"), look(engine, "c").cause) == (State.CANCELLED, "a")


def test_a_waiting_job_may_be_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b")], [Edge("a", "b")])

    assert engine.steer("cancel", ["b"]) == ["b"]
    settle(engine, Succeeded(take_one(engine).token))

    assert state_of(engine, "b") is State.CANCELLED
    assert counts(engine) == {State.SUCCEEDED: 1, State.CANCELLED: 1}


def test_a_waiting_job_may_not_be_discarded_nor_the_one_before_it(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")], [Edge("a", "c"), Edge("b", "c")])
    settle(engine, Succeeded(take_one(engine).token))

    assert engine.steer("discard", ["a", "c"]) == []
    engine.steer("cancel", ["c"])
    assert engine.steer("discard", ["a", "c"]) == ["a", "c"]


def test_a_parent_that_was_deleted_is_said_to_be_gone(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a"))
    engine.enqueue([job(id="b")], [Edge("a", "b")])
    engine.steer("cancel", ["b"])
    engine.steer("discard", ["a"])
    engine.steer("revive", ["b"])

    [parent] = take_one(engine).parents

    assert (parent.id, parent.is_gone) == ("a", True)


def test_a_parent_is_kept_while_a_job_after_it_lives(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", keep_s=10), job(id="b"), job(id="c")], [Edge("a", "c"), Edge("b", "c")])
    settle(engine, Succeeded(take_one(engine).token))
    harness.advance(20)
    sweep(engine)
    assert state_of(engine) is State.SUCCEEDED

    settle(engine, Succeeded(take_one(engine).token))
    settle(engine, Succeeded(take_one(engine).token))
    harness.advance(3_700)
    sweep(engine)

    assert engine.get(["a"]) == [None]
