"""Workers take the jobs whose traits they accept, and not again what failed on them, where another could."""

from __future__ import annotations

from cicely.core.flow import Flow
from cicely.core.outcome import Deferred, Failed, Succeeded
from cicely.engines.contract import Engine, Session
from cicely.testing.conformance.bench import (
    QUEUE,
    ids,
    job,
    look,
    session,
    settle,
    take,
    take_one,
    wanting,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

OPUS, HAIKU = Flow(traits=("model=opus",)), Flow(traits=("model=haiku",))


# --- traits -------------------------------------------------------------------------------
def test_a_worker_takes_no_job_with_another_value_than_it_accepts(harness: Harness) -> None:
    engine = _accepting(harness, model=("opus",))
    engine.enqueue([job(id="haiku", flow=HAIKU), job(id="opus", flow=OPUS)])

    assert ids(take(engine, 5)) == ["opus"]


def test_a_worker_may_accept_several_values(harness: Harness) -> None:
    engine = _accepting(harness, model=("opus", "haiku"))
    flow = Flow(traits=("model=sonnet",))
    engine.enqueue([job(id="haiku", flow=HAIKU), job(id="sonnet", flow=flow), job(id="opus", flow=OPUS)])

    assert ids(take(engine, 5)) == ["haiku", "opus"]


def test_a_job_without_a_trait_of_that_name_is_taken(harness: Harness) -> None:
    engine = _accepting(harness, model=("opus",))
    engine.enqueue([job(id="plain"), job(id="eu", flow=Flow(traits=("region=eu",)))])

    assert ids(take(engine, 5)) == ["plain", "eu"]


def test_a_worker_that_names_nothing_takes_all(harness: Harness) -> None:
    engine = _accepting(harness)
    engine.enqueue([job(id="haiku", flow=HAIKU), job(id="opus", flow=OPUS)])

    assert ids(take(engine, 5)) == ["haiku", "opus"]


def test_each_name_that_a_worker_accepts_must_fit(harness: Harness) -> None:
    engine = _accepting(harness, model=("opus",), region=("eu",))
    engine.enqueue([job(id="us", flow=Flow(traits=("model=opus", "region=us")))])
    engine.enqueue([job(id="eu", flow=Flow(traits=("model=opus", "region=eu")))])

    assert ids(take(engine, 5)) == ["eu"]


def test_a_name_that_accepts_no_value_takes_no_job_of_that_name(harness: Harness) -> None:
    engine = _accepting(harness, model=())
    engine.enqueue([job(id="opus", flow=OPUS), job(id="plain")])

    assert ids(take(engine, 5)) == ["plain"]


def test_a_value_may_hold_an_equals_sign(harness: Harness) -> None:
    engine = _accepting(harness, model=("a=b",))
    engine.enqueue([job(id="a", flow=Flow(traits=("model=a=b",)))])

    assert ids(take(engine, 5)) == ["a"]


def test_what_one_worker_does_not_accept_another_takes_in_its_place(harness: Harness) -> None:
    engine = _accepting(harness, model=("opus",))
    engine.join(session(id="t", worker="another"))
    engine.enqueue([job(id="haiku", priority=9, flow=HAIKU), job(id="plain"), job(id="opus", flow=OPUS)])

    assert ids(take(engine, 1)) == ["plain"]
    assert ids(take(engine, 5, by="t")) == ["haiku", "opus"]


# --- elsewhere ----------------------------------------------------------------------------
def test_a_job_that_asked_for_another_worker_is_left_to_it(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other())

    assert take(engine) == ()
    assert ids(take(engine, by="t")) == ["a"]


def test_no_session_of_the_same_worker_takes_it(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other())
    engine.join(session(id="sibling", worker="boss", queues=(QUEUE,)))

    assert take(engine, by="sibling") == ()


def test_other_jobs_of_the_task_are_taken_there_as_before(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other())
    engine.enqueue([job(id="b")])

    assert ids(take(engine, 5)) == ["b"]


def test_where_there_is_no_other_worker_it_runs_where_it_failed(harness: Harness) -> None:
    engine = _failed_elsewhere(harness)

    assert ids(take(engine)) == ["a"]


def test_a_worker_that_does_not_serve_the_queue_is_no_other(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, session(id="t", worker="another", queues=("side",)))

    assert ids(take(engine)) == ["a"]


def test_a_worker_that_does_not_run_the_task_is_no_other(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other(tasks=frozenset({"other"})))

    assert ids(take(engine)) == ["a"]


def test_a_supervisor_is_no_other(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other(tasks=frozenset()))

    assert ids(take(engine)) == ["a"]


def test_a_worker_that_does_not_accept_the_job_is_no_other(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other(accepts={"model": ("haiku",)}), flow=OPUS)

    assert ids(take(engine)) == ["a"]


def test_a_worker_without_the_jobs_resources_is_no_other(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other(), flow=wanting(gpu=1))

    assert ids(take(engine)) == ["a"]


def test_when_the_other_worker_leaves_it_runs_where_it_failed(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other())
    assert take(engine) == ()

    engine.retire("t")

    assert ids(take(engine)) == ["a"]


def test_once_it_was_taken_elsewhere_it_may_come_back(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other())
    claim = take_one(engine, by="t")
    settle(engine, Failed(claim.token, "error", retry_in_s=0.0), by="t")
    harness.advance(1)

    assert ids(take(engine)) == ["a"]


def test_it_waits_for_its_retry_there_as_anywhere(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other(), retry_in_s=10.0)

    assert take(engine, by="t") == ()
    harness.advance(11)
    assert ids(take(engine, by="t")) == ["a"]


def test_a_failure_that_asks_for_nothing_is_retried_anywhere(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other())
    engine.enqueue([job(id="b", priority=9)])
    settle(engine, Failed(take_one(engine).token, "error", retry_in_s=0.0))
    harness.advance(1)

    assert ids(take(engine)) == ["b"]


def test_a_revived_job_runs_anywhere(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other())
    engine.steer("cancel", ["a"])
    engine.steer("revive", ["a"])

    assert ids(take(engine)) == ["a"]


def test_the_other_workers_success_ends_it_as_any(harness: Harness) -> None:
    engine = _failed_elsewhere(harness, _other())

    settle(engine, Succeeded(take_one(engine, by="t").token), by="t")

    assert [record.session for record in look(engine).attempts] == ["s", "t"]


# --- what is known of the attempt before ---------------------------------------------------
def test_a_claim_says_how_the_attempt_before_ended(harness: Harness) -> None:
    engine = _failed_elsewhere(harness)

    assert take_one(engine).reason == "error"


def test_a_first_attempt_knows_of_none_before(harness: Harness) -> None:
    engine = _accepting(harness)
    engine.enqueue([job(id="a"), job(id="b")])
    settle(engine, Deferred(take_one(engine).token, 0.0, "not yet"))
    harness.advance(1)

    assert [claim.reason for claim in take(engine, 2)] == ["", ""]


def _accepting(harness: Harness, **accepts: tuple[str, ...]) -> Engine:
    """Return an engine with the session "s", which accepts these values."""
    engine = harness.engine()
    engine.join(session(id="s", queues=(QUEUE,), accepts=accepts))
    return engine


def _other(
    tasks: frozenset[str] = frozenset({"work"}), accepts: dict[str, tuple[str, ...]] | None = None
) -> Session:
    """Return a session of another worker that serves the queue."""
    return session(id="t", worker="another", queues=(QUEUE,), tasks=tasks, accepts=accepts or {})


def _failed_elsewhere(
    harness: Harness, *others: Session, flow: Flow | None = None, retry_in_s: float = 0.0
) -> Engine:
    """Return an engine where the job "a" failed on the worker of "s" and asked for another one."""
    engine = harness.engine()
    engine.join(session(id="s", queues=(QUEUE,), offers={"gpu": {"0": 1.0}}))
    for other in others:
        engine.join(other)
    engine.enqueue([job(id="a", flow=flow)])
    claim = take_one(engine)
    settle(engine, Failed(claim.token, "error", retry_in_s=retry_in_s, elsewhere=True))
    harness.advance(0.1)
    return engine
