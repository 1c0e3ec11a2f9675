"""A workflow that is written in pages begins when it is published, and its jobs share labels."""

from __future__ import annotations

from cicely.core.edge import Edge
from cicely.core.job import DAY_S, Filter
from cicely.core.outcome import Failed, Succeeded, Suspended
from cicely.core.states import State
from cicely.testing.conformance.bench import (
    counts,
    ids,
    job,
    look,
    session,
    settle,
    start,
    state_of,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.cascades import MANY, finish_sweeping
from cicely.testing.conformance.harness import Harness

HOUR_S = 3_600


def test_a_held_job_waits_until_its_workflow_is_published(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", workflow="w", held=True)])
    assert (ids(take(engine, 5)), state_of(engine)) == ([], State.WAITING)
    assert look(engine).pending == 1

    engine.publish("w")

    assert ids(take(engine, 5)) == ["a"]


def test_publishing_leaves_other_workflows_alone(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", workflow="w", held=True), job(id="b", workflow="v", held=True)])

    engine.publish("w")

    assert (state_of(engine, "a"), state_of(engine, "b")) == (State.READY, State.WAITING)


def test_a_held_job_with_parents_waits_for_both(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b", workflow="w", held=True)], [Edge("a", "b")])
    settle(engine, Succeeded(take_one(engine).token))
    assert (state_of(engine, "b"), look(engine, "b").pending) == (State.WAITING, 1)

    engine.publish("w")

    assert state_of(engine, "b") is State.READY


def test_publishing_twice_is_publishing_once(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", workflow="w", held=True)])
    engine.publish("w")
    claim = take_one(engine)

    engine.publish("w")

    assert state_of(engine) is State.RUNNING
    settle(engine, Succeeded(claim.token))


def test_jobs_held_after_the_publication_do_not_wait(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", workflow="w", held=True)])
    engine.publish("w")

    engine.enqueue([job(id="a", workflow="w", held=True), job(id="b", workflow="w", held=True)])

    assert counts(engine) == {State.READY: 2}


def test_hundreds_are_published_in_pages(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id=f"n{n}", workflow="w", held=True) for n in range(MANY)])

    engine.publish("w")
    finish_sweeping(engine)

    assert counts(engine) == {State.READY: MANY}


def test_the_delay_of_a_held_job_counts_from_the_publication(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", workflow="w", held=True, delay_s=60)])
    harness.advance(100)

    engine.publish("w")

    assert state_of(engine) is State.SCHEDULED


def test_a_suspended_job_publishes_what_it_wrote(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.enqueue([job(id="b", workflow="w", held=True)])

    settle(engine, Suspended(claim.token, publishes="w", edges=(Edge("b", "a"),)))

    assert (state_of(engine, "a"), state_of(engine, "b")) == (State.WAITING, State.READY)
    settle(engine, Succeeded(take_one(engine).token))
    assert ids(take(engine, 5)) == ["a"]


def test_a_stale_outcome_publishes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.enqueue([job(id="b", workflow="w", held=True)])
    engine.retire("s")

    settle(engine, Suspended(claim.token, publishes="w"), by="other")

    assert state_of(engine, "b") is State.WAITING


def test_jobs_are_found_by_their_workflow_and_group(harness: Harness) -> None:
    engine = harness.engine()
    labels = {"a": ("w", "g"), "b": ("w", "h"), "c": ("w", "g"), "d": ("v", "i"), "e": ("", "")}
    engine.enqueue([job(id=name, workflow=w, group=g) for name, (w, g) in labels.items()])

    assert [found.id for found in engine.find(Filter(workflow="w")).jobs] == ["c", "b", "a"]
    assert [found.id for found in engine.find(Filter(group="g")).jobs] == ["c", "a"]
    first = engine.find(Filter(workflow="w"), limit=2)
    rest = engine.find(Filter(workflow="w"), limit=2, cursor=first.cursor)
    assert [found.id for found in first.jobs + rest.jobs] == ["c", "b", "a"]
    assert (look(engine, "b").workflow, look(engine, "b").group) == ("w", "h")


def test_a_workflow_is_searched_by_state_as_well(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id=name, workflow="w") for name in "abc"])
    engine.steer("cancel", ["b"])

    found = engine.find(Filter(workflow="w", states=(State.CANCELLED,)))

    assert [one.id for one in found.jobs] == ["b"]


def test_the_claim_carries_the_labels(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a", workflow="w", group="g"))

    assert (claim.workflow, claim.group) == ("w", "g")


def test_jobs_of_a_workflow_are_kept_while_one_of_them_lives(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name, workflow="w", keep_s=10) for name in "ab"])
    settle(engine, Succeeded(take_one(engine).token))
    harness.advance(HOUR_S * 2)
    sweep(engine)

    assert state_of(engine, "a") is State.SUCCEEDED

    settle(engine, Succeeded(take_one(engine).token))
    harness.advance(HOUR_S * 2)
    finish_sweeping(engine)
    assert engine.get(["a", "b"]) == [None, None]


def test_jobs_of_a_workflow_are_kept_as_long_as_the_failed_one(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=n, workflow="w", keep_s=10, keep_failed_s=10 * DAY_S) for n in "ab"])
    first, second = take(engine, 2)
    settle(engine, Succeeded(first.token))
    settle(engine, Failed(second.token, "error", b"why"))
    harness.advance(DAY_S * 9)
    finish_sweeping(engine)

    assert state_of(engine, "a") is State.SUCCEEDED

    harness.advance(DAY_S * 2)
    finish_sweeping(engine)
    assert engine.get(["a", "b"]) == [None, None]


def test_a_workflow_that_is_never_published_is_deleted(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id=name, workflow="w", held=name == "a") for name in "ab"], [Edge("a", "b")])
    engine.enqueue([job(id="c")])

    harness.advance(DAY_S + 2 * HOUR_S)
    finish_sweeping(engine)

    assert engine.get(["a", "b"]) == [None, None]
    assert counts(engine) == {State.READY: 1}
