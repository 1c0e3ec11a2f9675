"""A reservation ends: freed by a job of its workflow, with the workflow, or with its worker."""

from __future__ import annotations

import msgspec

from cicely.core.edge import Edge
from cicely.core.flow import Flow
from cicely.core.job import NewJob
from cicely.core.outcome import Crashed, Deferred, Failed, HandedBack, Outcome, Stopped, Succeeded, Suspended
from cicely.core.reservations import EVERYTHING
from cicely.core.resources import Amounts
from cicely.engines.contract import Engine, Verdict
from cicely.testing.conformance.bench import (
    QUEUE,
    armed,
    demand,
    ids,
    job,
    rings,
    session,
    settle,
    silent,
    sweep,
    take,
    take_one,
    wanting,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW, Capability.RESERVATIONS, Capability.BELLS})

GPU = wanting(gpu=1)
BOTH = wanting(gpu=1, memory_gb=16)
OFFERS: Amounts = {"gpu": {"0": 1.0}, "memory_gb": {"": 16.0}}


# --- freed --------------------------------------------------------------------------------
def test_a_success_frees(harness: Harness) -> None:
    _check_that_it_frees(harness, Succeeded(b"", frees=("gpu",)))


def test_a_failure_frees(harness: Harness) -> None:
    _check_that_it_frees(harness, Failed(b"", "error", frees=("gpu",)))


def test_a_failure_that_is_retried_frees(harness: Harness) -> None:
    _check_that_it_frees(harness, Failed(b"", "error", retry_in_s=100.0, frees=("gpu",)))


def test_a_deferral_frees(harness: Harness) -> None:
    _check_that_it_frees(harness, Deferred(b"", 100.0, frees=("gpu",)))


def test_an_end_by_cancelling_frees(harness: Harness) -> None:
    _check_that_it_frees(harness, Stopped(b"", frees=("gpu",)))


def test_a_suspension_frees(harness: Harness) -> None:
    _check_that_it_frees(harness, Suspended(b"", delay_s=100.0, frees=("gpu",)))


def test_a_success_of_a_job_that_was_cancelled_meanwhile_frees(harness: Harness) -> None:
    engine, token = _releasing(harness)
    engine.steer("cancel", ["release"])

    settle(engine, Succeeded(token, frees=("gpu",)), by="t")

    assert ids(take(engine, 5)) == ["foreign"]


def test_a_hand_back_frees_nothing(harness: Harness) -> None:
    _check_that_it_frees_nothing(harness, HandedBack(b""))


def test_a_crash_frees_nothing(harness: Harness) -> None:
    _check_that_it_frees_nothing(harness, Crashed(b"", "killed by signal 9"))


def test_a_success_that_frees_something_else_frees_nothing_of_this(harness: Harness) -> None:
    _check_that_it_frees_nothing(harness, Succeeded(b"", frees=("memory_gb",)))


def test_an_outcome_that_comes_too_late_frees_nothing(harness: Harness) -> None:
    engine, token = _releasing(harness)
    engine.retire("t")
    engine.join(session(id="u", worker="third", queues=(QUEUE,)))

    assert settle(engine, Succeeded(token, frees=("gpu",)), by="u") is Verdict.STALE
    assert take(engine, 5) == ()


def test_all_is_freed_at_once(harness: Harness) -> None:
    engine, token = _releasing(harness, kept=("gpu", "memory_gb"))

    settle(engine, Succeeded(token, frees=(EVERYTHING,)), by="t")
    engine.enqueue([job(id="both", priority=9, flow=BOTH)])

    assert ids(take(engine, 5)) == ["both"]


def test_what_is_not_freed_stays(harness: Harness) -> None:
    engine, token = _releasing(harness, kept=("gpu", "memory_gb"))

    settle(engine, Succeeded(token, frees=("gpu",)), by="t")
    engine.enqueue([job(id="large", priority=9, flow=wanting(memory_gb=16))])

    assert ids(take(engine, 5)) == ["foreign"]


def test_it_is_freed_on_all_workers(harness: Harness) -> None:
    engine = _worker(harness)
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=OFFERS))
    engine.enqueue([*(job(id=f"j{n}", workflow="w", flow=GPU) for n in range(2)), _live("w")])
    for by, claim in [(by, take_one(engine, by=by)) for by in ("s", "t")]:
        settle(engine, Succeeded(claim.token, keeps=("gpu",)), by=by)
    engine.enqueue([job(id="release", workflow="w")])

    settle(engine, Succeeded(take_one(engine).token, frees=("gpu",)))
    engine.enqueue([job(id=f"foreign{n}", flow=GPU) for n in range(2)])

    assert ids(take(engine)) + ids(take(engine, by="t")) == ["foreign0", "foreign1"]


def test_freeing_what_is_not_reserved_is_no_error(harness: Harness) -> None:
    engine = _worker(harness)
    engine.enqueue([job(id="a", workflow="w"), job(id="b")])

    for claim in take(engine, 2):
        assert settle(engine, Succeeded(claim.token, frees=("gpu", EVERYTHING))) is Verdict.ACCEPTED


def test_nothing_is_freed_of_another_workflow(harness: Harness) -> None:
    engine, _ = _releasing(harness)
    engine.enqueue([job(id="a", workflow="v", priority=9), job(id="b", priority=9)])

    for claim in take(engine, 2):
        settle(engine, Succeeded(claim.token, frees=(EVERYTHING,)))

    assert take(engine, 5) == ()


def test_what_a_running_job_drew_is_taken_until_it_ends(harness: Harness) -> None:
    engine, token = _releasing(harness)
    engine.enqueue([job(id="a", workflow="w", flow=GPU)])
    claim = take_one(engine)

    settle(engine, Succeeded(token, frees=("gpu",)), by="t")

    assert take(engine, 5) == ()
    settle(engine, Succeeded(claim.token))
    assert ids(take(engine, 5)) == ["foreign"]


def test_what_was_drawn_and_freed_counts_beside_what_is_kept_anew(harness: Harness) -> None:
    engine = _worker(harness, {"memory_gb": {"": 2.0}})
    small = wanting(memory_gb=1)
    engine.enqueue([job(id="first", workflow="w", flow=small), _live("w")])
    settle(engine, Succeeded(take_one(engine).token, keeps=("memory_gb",)))
    engine.enqueue([job(id="draws", workflow="w", flow=small), job(id="release", workflow="w", priority=0)])
    _, release = take(engine, 2)
    settle(engine, Succeeded(release.token, frees=("memory_gb",)))
    engine.enqueue([job(id="second", workflow="w", flow=small)])
    settle(engine, Succeeded(take_one(engine).token, keeps=("memory_gb",)))

    engine.enqueue([job(id="foreign", flow=small)])

    assert take(engine, 5) == ()


def test_a_job_may_free_and_keep_anew(harness: Harness) -> None:
    engine, token = _releasing(harness)
    engine.enqueue([job(id="a", workflow="w", flow=GPU)])

    settle(engine, Succeeded(take_one(engine).token, keeps=("gpu",), frees=("gpu",)))

    assert take(engine, 5) == ()
    settle(engine, Succeeded(token, frees=("gpu",)), by="t")
    assert ids(take(engine, 5)) == ["foreign"]


def test_after_it_was_freed_a_job_of_the_workflow_is_placed_anywhere(harness: Harness) -> None:
    engine, token = _releasing(harness)
    engine.enqueue([job(id="a", workflow="w", flow=GPU, priority=9)])

    settle(engine, Succeeded(token, frees=("gpu",)), by="t")
    engine.join(session(id="u", worker="third", queues=(QUEUE,), offers=OFFERS))

    assert ids(take(engine, 1, by="u")) == ["a"]


def _check_that_it_frees(harness: Harness, outcome: Outcome) -> None:
    engine, token = _releasing(harness)
    assert take(engine, 5) == ()

    settle(engine, msgspec.structs.replace(outcome, token=token), by="t")

    assert ids(take(engine, 5)) == ["foreign"]


def _check_that_it_frees_nothing(harness: Harness, outcome: Outcome) -> None:
    engine, token = _releasing(harness)

    settle(engine, msgspec.structs.replace(outcome, token=token), by="t")

    assert "foreign" not in ids(take(engine, 5))


# --- the end of the workflow --------------------------------------------------------------
def test_a_sweep_ends_it_when_no_job_of_the_workflow_is_live(harness: Harness) -> None:
    engine = _left(harness, "w")
    engine.enqueue([job(id="foreign", flow=GPU)])
    assert take(engine, 5) == ()

    sweep(engine)

    assert ids(take(engine, 5)) == ["foreign"]


def test_a_workflow_that_failed_reserves_nothing_any_more(harness: Harness) -> None:
    engine = _worker(harness)
    engine.enqueue([job(id="first", workflow="w", flow=GPU), job(id="last", workflow="w")], [_BEHIND])
    settle(engine, Succeeded(take_one(engine).token, keeps=("gpu",)))
    settle(engine, Failed(take_one(engine).token, "error"))

    sweep(engine)

    engine.enqueue([job(id="foreign", flow=GPU)])
    assert ids(take(engine, 5)) == ["foreign"]


def test_a_workflow_that_was_cancelled_reserves_nothing_any_more(harness: Harness) -> None:
    engine = _worker(harness)
    engine.enqueue([job(id="first", workflow="w", flow=GPU), job(id="last", workflow="w")], [_BEHIND])
    settle(engine, Succeeded(take_one(engine).token, keeps=("gpu",)))
    engine.steer("cancel", ["last"])

    sweep(engine)

    engine.enqueue([job(id="foreign", flow=GPU)])
    assert ids(take(engine, 5)) == ["foreign"]


def test_a_sweep_ends_no_more_than_it_was_asked_to(harness: Harness) -> None:
    engine = _left(harness, "u", "v", "w", flow=wanting(memory_gb=4))
    engine.enqueue([job(id="asks")])

    left, said_more = [], []
    for _ in range(4):
        said_more.append(engine.sweep(1).more)
        around = engine.surroundings("asks")
        left.append(len(around.reserved) if around else -1)

    assert left == [2, 1, 0, 0]
    assert said_more[:2] == [True, True]
    assert not said_more[3]


def test_a_revived_job_is_placed_anywhere_after_the_reservation_ended(harness: Harness) -> None:
    engine = _worker(harness)
    new = [job(id="first", workflow="w", flow=GPU), job(id="last", workflow="w", flow=GPU)]
    engine.enqueue(new, [_BEHIND])
    settle(engine, Succeeded(take_one(engine).token, keeps=("gpu",)))
    settle(engine, Failed(take_one(engine).token, "error"))
    sweep(engine)

    engine.steer("revive", ["last"])
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=OFFERS))

    assert ids(take(engine, 5, by="t")) == ["last"]


# --- the end of the worker ----------------------------------------------------------------
def test_it_ends_when_the_last_session_of_its_worker_is_retired(harness: Harness) -> None:
    engine = _with_two_sessions(harness)

    engine.retire("s")
    assert take(engine, 5, by="t") == ()
    engine.retire("boss")

    assert ids(take(engine, 5, by="t")) == ["a"]


def test_it_ends_when_the_last_session_of_its_worker_is_rescued(harness: Harness) -> None:
    engine = _with_two_sessions(harness)

    sweep(engine, silent(engine, "boss"))
    assert take(engine, 5, by="t") == ()
    sweep(engine, silent(engine))

    assert ids(take(engine, 5, by="t")) == ["a"]


def test_it_stays_when_a_child_is_replaced(harness: Harness) -> None:
    engine = _with_two_sessions(harness)

    engine.retire("s")
    engine.join(session(id="new", worker="boss", queues=(QUEUE,), offers=OFFERS))
    engine.enqueue([job(id="foreign", priority=9, flow=GPU)])

    assert ids(take(engine, 5, by="new")) == ["a"]


def test_what_the_last_outcomes_of_a_worker_keep_ends_with_it(harness: Harness) -> None:
    engine = _worker(harness)
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=OFFERS))
    new = [job(id="first", workflow="w", flow=GPU), job(id="last", workflow="w", flow=GPU)]
    engine.enqueue(new, [_BEHIND])

    engine.retire("s", [Succeeded(take_one(engine).token, keeps=("gpu",))])

    assert ids(take(engine, 5, by="t")) == ["last"]


def _with_two_sessions(harness: Harness) -> Engine:
    """Return an engine where a workflow has reserved of a worker with two sessions, beside another."""
    engine = _worker(harness)
    engine.join(session(id="boss", worker="boss", tasks=frozenset(), offers=OFFERS))
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=OFFERS))
    engine.enqueue([job(id="first", workflow="w", flow=GPU), _live("w")])
    settle(engine, Succeeded(take_one(engine).token, keeps=("gpu",)))
    engine.enqueue([job(id="a", workflow="w", flow=GPU)])
    return engine


# --- ringing ------------------------------------------------------------------------------
def test_what_is_freed_rings_for_whoever_waits_for_it(harness: Harness) -> None:
    engine, token = _releasing(harness)

    with armed(engine.doorbell("s")) as bell:
        settle(engine, Succeeded(token, frees=("gpu",)), by="t")

        assert rings(bell)


def test_a_sweep_that_ends_it_rings_for_whoever_waits_for_it(harness: Harness) -> None:
    engine = _left(harness, "w")
    engine.enqueue([job(id="foreign", flow=GPU)])

    with armed(engine.doorbell("s")) as bell:
        sweep(engine)

        assert rings(bell)


def test_a_job_that_may_draw_rings_for_the_worker_that_has_it(harness: Harness) -> None:
    engine, _ = _releasing(harness)
    engine.join(session(id="u", worker="third", queues=(QUEUE,), offers=OFFERS))
    take(engine, 5, by="u")

    with armed(engine.doorbell("u")), armed(engine.doorbell("s")) as bell:
        engine.enqueue([job(id="a", workflow="w", flow=GPU)])

        assert rings(bell)


_BEHIND = Edge("first", "last")


def _left(harness: Harness, *workflows: str, flow: Flow = GPU) -> Engine:
    """Return an engine where workflows whose only job has ended have reserved what it had."""
    engine = _worker(harness)
    engine.enqueue([job(id=f"first of {name}", workflow=name, flow=flow) for name in workflows])
    for claim in take(engine, 5):
        settle(engine, Succeeded(claim.token, keeps=tuple(claim.units)))
    return engine


def _releasing(harness: Harness, *, kept: tuple[str, ...] = ("gpu",)) -> tuple[Engine, bytes]:
    """Return an engine where a workflow has reserved of "boss", and another waits for that.

    And the token of a job of the workflow that runs on "another", which is to free something.
    """
    engine = _worker(harness)
    engine.join(session(id="t", worker="another", queues=(QUEUE,)))
    engine.enqueue([job(id="first", workflow="w", flow=BOTH), _live("w")])
    settle(engine, Succeeded(take_one(engine).token, keeps=kept))
    engine.enqueue([job(id="release", workflow="w", queue="side"), job(id="foreign", flow=GPU)])
    [claim] = engine.claim("t", demand(1, queues=("side",))).claims
    return engine, claim.token


def _live(workflow: str) -> NewJob:
    """Return a job that keeps a workflow live."""
    return job(id=f"end of {workflow}", workflow=workflow, delay_s=1e6)


def _worker(harness: Harness, offers: Amounts = OFFERS) -> Engine:
    """Return an engine with the session "s" of a worker that has so much."""
    engine = harness.engine()
    engine.join(session(id="s", worker="boss", queues=(QUEUE,), offers=offers))
    return engine
