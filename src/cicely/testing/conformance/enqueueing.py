"""An accepted job is kept as it was asked for, once, however often the asking is repeated."""

from __future__ import annotations

from cicely.core.job import Enqueued, Kind, NewJob
from cicely.core.states import State
from cicely.testing.conformance.bench import job, look, near, state_of
from cicely.testing.conformance.harness import Harness


def test_an_enqueued_job_is_ready_and_kept_as_it_was_asked_for(harness: Harness) -> None:
    engine = harness.engine()

    answers = engine.enqueue(
        [
            NewJob(
                id="a",
                task="work",
                kind=Kind.ASYNC,
                queue="high",
                body=b"body",
                options=b"options",
                priority=7,
                lane="team",
                tags=("red", "blue"),
                unique="key",
            )
        ]
    )

    kept = look(engine)
    assert answers == [Enqueued("a", fresh=True)]
    assert kept.state is State.READY
    assert (kept.id, kept.task, kept.kind, kept.queue) == ("a", "work", Kind.ASYNC, "high")
    assert (kept.body, kept.options, kept.priority) == (b"body", b"options", 7)
    assert (kept.lane, kept.tags, kept.unique) == ("team", ("red", "blue"), "key")


def test_a_new_job_has_no_history(harness: Harness) -> None:
    engine = harness.engine()

    engine.enqueue([job(id="a")])

    kept = look(engine)
    assert (kept.attempt, kept.fence, kept.attempts) == (0, 0, ())
    assert (kept.started_at, kept.ended_at, kept.session) == (None, None, "")
    assert (kept.result, kept.error, kept.progress) == (b"", b"", b"")
    assert not kept.cancelling
    assert not kept.swept


def test_answers_come_in_the_order_asked(harness: Harness) -> None:
    engine = harness.engine()

    answers = engine.enqueue([job(id=name) for name in "cab"])

    assert [answer.id for answer in answers] == ["c", "a", "b"]


def test_an_unknown_id_is_answered_with_none_in_its_place(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])

    before, found, after = engine.get(["x", "a", "y"])

    assert (before, after) == (None, None)
    assert found is not None


def test_enqueueing_nothing_answers_nothing(harness: Harness) -> None:
    assert harness.engine().enqueue([]) == []


def test_a_repeated_enqueue_stores_nothing_new(harness: Harness) -> None:
    engine = harness.engine()
    jobs = [job(id="a"), job(id="b")]
    engine.enqueue(jobs)

    answers = engine.enqueue(jobs)

    assert answers == [Enqueued("a", fresh=False), Enqueued("b", fresh=False)]


def test_a_known_id_keeps_its_first_body(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", body=b"first")])

    engine.enqueue([job(id="a", body=b"second", queue="elsewhere")])

    assert look(engine).body == b"first"
    assert [record.name for record in engine.queues()] == ["main"]


def test_a_repeated_page_adds_what_is_missing(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a"), job(id="c")])

    answers = engine.enqueue([job(id="a"), job(id="b"), job(id="c")])

    assert [answer.fresh for answer in answers] == [False, True, False]


def test_an_id_that_comes_twice_in_one_call_is_stored_once(harness: Harness) -> None:
    engine = harness.engine()

    answers = engine.enqueue([job(id="a", body=b"1"), job(id="a", body=b"2")])

    assert [answer.fresh for answer in answers] == [True, False]
    assert look(engine).body == b"1"


def test_a_delayed_job_is_scheduled(harness: Harness) -> None:
    engine = harness.engine()

    engine.enqueue([job(id="a", delay_s=60)])

    kept = look(engine)
    assert kept.state is State.SCHEDULED
    assert near(kept.due_at, kept.created_at + 60)


def test_a_job_may_name_the_instant_it_is_due(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="now")])
    due_at = look(engine, "now").created_at + 100

    engine.enqueue([job(id="a", due_at=due_at)])

    assert state_of(engine) is State.SCHEDULED
    assert near(look(engine).due_at, due_at)


def test_a_job_due_in_the_past_is_ready_at_once(harness: Harness) -> None:
    engine = harness.engine()

    engine.enqueue([job(id="a", due_at=1.0)])

    assert state_of(engine) is State.READY


def test_the_time_of_creation_is_the_engines(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])
    harness.advance(5)

    engine.enqueue([job(id="b")])

    gap_s = look(engine, "b").created_at - look(engine, "a").created_at
    assert 4.9 < gap_s < 6


def test_a_body_may_hold_any_bytes(harness: Harness) -> None:
    engine = harness.engine()
    body = bytes(range(256)) * 300

    engine.enqueue([job(id="a", body=body)])

    assert look(engine).body == body


def test_names_may_hold_any_text(harness: Harness) -> None:
    engine = harness.engine()
    hostile = "'; drop table jobs; -- %s {} \\ \" \u202e \U0001f33f\r\n\x1b[31m"

    engine.enqueue([job(id=hostile, task=hostile, queue=hostile, tags=(hostile,), unique=hostile)])

    kept = look(engine, hostile)
    assert (kept.task, kept.queue, kept.tags, kept.unique) == (
        hostile,
        hostile,
        (hostile,),
        hostile,
    )


def test_a_thousand_jobs_are_stored_in_one_call(harness: Harness) -> None:
    engine = harness.engine()
    names = [f"job-{number}" for number in range(1000)]

    answers = engine.enqueue([job(id=name) for name in names])

    assert [answer.id for answer in answers] == names
    assert all(answer.fresh for answer in answers)
    assert None not in engine.get(names)
