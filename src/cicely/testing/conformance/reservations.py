"""A workflow keeps what a job of it was given: later ones draw it, on that worker, and nobody else does."""

from __future__ import annotations

import msgspec

from cicely.core.edge import Edge
from cicely.core.flow import Flow
from cicely.core.job import NewJob
from cicely.core.outcome import Crashed, Deferred, Failed, HandedBack, Outcome, Stopped, Succeeded, Suspended
from cicely.core.resources import PATIENCE_S, Amounts
from cicely.engines.contract import Engine, Surroundings, Verdict
from cicely.testing.conformance.bench import (
    QUEUE,
    demand,
    ids,
    job,
    look,
    near,
    session,
    settle,
    sweep,
    take,
    take_one,
    wanting,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW, Capability.RESERVATIONS})

GPU = wanting(gpu=1)
ONE_GPU: Amounts = {"gpu": {"0": 1.0}}
TWO_GPUS: Amounts = {"gpu": {"0": 1.0, "1": 1.0}}


# --- kept ---------------------------------------------------------------------------------
def test_what_a_success_keeps_is_given_to_nobody_else(harness: Harness) -> None:
    engine = _reserved(harness, ONE_GPU)
    engine.enqueue([job(id="plain", flow=GPU), job(id="other", workflow="v", flow=GPU)])

    assert take(engine, 5) == ()


def test_a_later_job_of_the_workflow_is_given_it(harness: Harness) -> None:
    engine = _reserved(harness, TWO_GPUS)
    engine.enqueue([_of_w("a")])

    claim = take_one(engine)

    assert (claim.job_id, claim.units) == ("a", ONE_GPU)
    assert look(engine).units == ONE_GPU


def test_a_job_that_waited_for_the_one_that_kept_is_given_it(harness: Harness) -> None:
    engine = _worker(harness, ONE_GPU)
    engine.enqueue([_of_w("first"), _of_w("a")], [Edge("first", "a")])
    engine.enqueue([job(id="before", priority=9, flow=GPU)])
    settle(engine, Succeeded(take_one(engine).token))

    settle(engine, Succeeded(take_one(engine).token, keeps=("gpu",)))
    engine.enqueue([job(id="foreign", priority=9, flow=GPU)])

    assert ids(take(engine, 5)) == ["a"]


def test_one_that_was_ready_before_is_given_it_as_well(harness: Harness) -> None:
    engine = _worker(harness, ONE_GPU)
    engine.enqueue([_of_w("first"), job(id="foreign", flow=GPU), _of_w("a"), _of_w("b")])

    settle(engine, Succeeded(take_one(engine).token, keeps=("gpu",)))

    assert ids(take(engine, 5)) == ["a"]


def test_one_that_becomes_due_later_is_given_it_as_well(harness: Harness) -> None:
    engine = _worker(harness, ONE_GPU)
    engine.enqueue([_of_w("first"), job(id="foreign", flow=GPU), _of_w("a", delay_s=10)])
    settle(engine, Succeeded(take_one(engine).token, keeps=("gpu",)))
    harness.advance(11)

    assert ids(take(engine, 5)) == ["a"]


def test_two_run_at_once_only_as_far_as_it_reaches(harness: Harness) -> None:
    engine = _reserved(harness, {"gpu": {"0": 1.0, "1": 1.0, "2": 1.0}}, flow=wanting(gpu=2))
    engine.enqueue([_of_w(f"j{n}") for n in range(3)])

    claims = take(engine, 5)

    assert [claim.units for claim in claims] == [{"gpu": {"0": 1.0}}, {"gpu": {"1": 1.0}}]


def test_parts_of_it_are_given_as_parts_of_a_worker_are(harness: Harness) -> None:
    offers = {"gpu_memory_gb": {"0": 80.0, "1": 80.0}}
    engine = _reserved(harness, offers, flow=wanting(gpu_memory_gb=48))
    engine.enqueue([_of_w(f"j{n}", flow=wanting(gpu_memory_gb=24)) for n in range(3)])
    engine.enqueue([job(id=f"foreign{n}", priority=0, flow=wanting(gpu_memory_gb=32)) for n in range(4)])

    claims = take(engine, 9)

    given = {claim.job_id: dict(claim.units["gpu_memory_gb"]) for claim in claims}
    assert given == {
        "j0": {"0": 24.0},
        "j1": {"0": 24.0},
        "foreign0": {"0": 32.0},
        "foreign1": {"1": 32.0},
        "foreign2": {"1": 32.0},
    }


def test_only_what_is_named_stays(harness: Harness) -> None:
    offers: Amounts = {"gpu": {"0": 1.0}, "memory_gb": {"": 64.0}}
    engine = _reserved(harness, offers, flow=wanting(gpu=1, memory_gb=64))
    engine.enqueue([job(id="a", flow=wanting(memory_gb=64)), job(id="b", flow=GPU)])

    assert ids(take(engine, 5)) == ["a"]


def test_what_is_not_reserved_comes_from_the_worker(harness: Harness) -> None:
    offers: Amounts = {"gpu": {"0": 1.0}, "memory_gb": {"": 64.0}}
    engine = _reserved(harness, offers)
    engine.enqueue([_of_w("a", flow=wanting(gpu=1, memory_gb=40)), job(id="b", flow=wanting(memory_gb=40))])

    claim = take_one(engine)

    assert claim.units == {"gpu": {"0": 1.0}, "memory_gb": {"": 40.0}}
    assert take(engine, 5) == ()
    settle(engine, Succeeded(claim.token))
    assert ids(take(engine, 5)) == ["b"]


def test_what_several_jobs_keep_adds_up(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([_of_w("first"), _of_w("second"), _waits()])
    for claim in take(engine, 2):
        settle(engine, Succeeded(claim.token, keeps=("gpu",)))
    engine.enqueue([_of_w("a", flow=wanting(gpu=2)), job(id="foreign", priority=9, flow=GPU)])

    [claim] = take(engine, 5)

    assert (claim.job_id, claim.units) == ("a", TWO_GPUS)


def test_keeping_what_was_drawn_keeps_it_once(harness: Harness) -> None:
    engine = _reserved(harness, {"memory_gb": {"": 3.0}}, flow=wanting(memory_gb=1))
    engine.enqueue([_of_w("a", flow=wanting(memory_gb=1))])

    settle(engine, Succeeded(take_one(engine).token, keeps=("memory_gb",)))
    engine.enqueue([job(id=f"foreign{n}", flow=wanting(memory_gb=1)) for n in range(3)])

    assert ids(take(engine, 5)) == ["foreign0", "foreign1"]


def test_what_a_job_without_a_workflow_keeps_goes_back(harness: Harness) -> None:
    engine = _worker(harness, ONE_GPU)
    engine.enqueue([job(id="a", flow=GPU), job(id="b", flow=GPU)])

    settle(engine, Succeeded(take_one(engine).token, keeps=("gpu",)))

    assert ids(take(engine, 5)) == ["b"]


def test_what_a_job_does_not_hold_it_cannot_keep(harness: Harness) -> None:
    engine = _worker(harness, ONE_GPU)
    engine.enqueue([job(id="first", workflow="w"), _waits()])

    settle(engine, Succeeded(take_one(engine).token, keeps=("gpu", "tpu")))
    engine.enqueue([job(id="foreign", flow=GPU)])

    assert ids(take(engine, 5)) == ["foreign"]


def test_an_attempt_that_fails_keeps_nothing(harness: Harness) -> None:
    engine = _worker(harness, ONE_GPU)
    engine.enqueue([_of_w("first"), job(id="foreign", flow=GPU), _waits()])

    settle(engine, Failed(take_one(engine).token, "error", retry_in_s=1e5))

    assert ids(take(engine, 5)) == ["foreign"]


def test_a_job_that_is_cancelled_meanwhile_keeps_nothing(harness: Harness) -> None:
    engine = _worker(harness, ONE_GPU)
    engine.enqueue([_of_w("first"), job(id="foreign", flow=GPU), _waits()])
    claim = take_one(engine)
    engine.steer("cancel", ["first"])

    settle(engine, Succeeded(claim.token, keeps=("gpu",)))

    assert "foreign" in ids(take(engine, 5))


def test_an_outcome_that_comes_too_late_keeps_nothing(harness: Harness) -> None:
    engine = _worker(harness, ONE_GPU)
    engine.join(session(id="boss", worker="boss", tasks=frozenset()))
    engine.enqueue([_of_w("first"), _waits()])
    claim = take_one(engine)
    engine.retire("s")
    engine.join(session(id="t", worker="boss", queues=(QUEUE,), offers=ONE_GPU))

    verdict = settle(engine, Succeeded(claim.token, keeps=("gpu",)), by="t")
    engine.enqueue([job(id="foreign", priority=9, flow=GPU)])

    assert verdict is Verdict.STALE
    assert take_one(engine, by="t").job_id == "foreign"


def test_repeating_an_outcome_keeps_no_more(harness: Harness) -> None:
    engine = _worker(harness, {"memory_gb": {"": 2.0}})
    engine.enqueue([_of_w("first", flow=wanting(memory_gb=1)), _waits()])
    kept = Succeeded(take_one(engine).token, keeps=("memory_gb",))
    assert settle(engine, kept) is Verdict.ACCEPTED

    assert settle(engine, kept) is Verdict.ALREADY
    engine.enqueue([job(id="foreign", flow=wanting(memory_gb=1))])

    assert "foreign" in ids(take(engine, 5))


# --- given back to it ---------------------------------------------------------------------
def test_a_success_gives_back_to_the_reservation(harness: Harness) -> None:
    _check_that_it_stays_reserved(harness, Succeeded(b""))


def test_a_failure_gives_back_to_the_reservation(harness: Harness) -> None:
    _check_that_it_stays_reserved(harness, Failed(b"", "error"))


def test_a_retry_gives_back_to_the_reservation(harness: Harness) -> None:
    _check_that_it_stays_reserved(harness, Failed(b"", "error", retry_in_s=100.0))


def test_a_crash_gives_back_to_the_reservation(harness: Harness) -> None:
    _check_that_it_stays_reserved(harness, Crashed(b"", "killed by signal 9"))


def test_a_hand_back_gives_back_to_the_reservation(harness: Harness) -> None:
    _check_that_it_stays_reserved(harness, HandedBack(b""))


def test_a_deferral_gives_back_to_the_reservation(harness: Harness) -> None:
    _check_that_it_stays_reserved(harness, Deferred(b"", 100.0))


def test_a_suspension_gives_back_to_the_reservation(harness: Harness) -> None:
    _check_that_it_stays_reserved(harness, Suspended(b"", delay_s=100.0))


def test_an_end_by_cancelling_gives_back_to_the_reservation(harness: Harness) -> None:
    _check_that_it_stays_reserved(harness, Stopped(b""))


def test_a_child_that_leaves_gives_back_to_the_reservation(harness: Harness) -> None:
    engine = _reserved(harness, ONE_GPU)
    engine.join(session(id="t", worker="boss", queues=(QUEUE,), offers=ONE_GPU))
    engine.enqueue([_of_w("a"), job(id="foreign", priority=9, flow=GPU)])
    take_one(engine)

    engine.retire("s")

    assert ids(take(engine, 5, by="t")) == ["a"]


def _check_that_it_stays_reserved(harness: Harness, outcome: Outcome) -> None:
    """Let a job that draws end so: then the next of its workflow draws, and no other job is given it."""
    engine = _reserved(harness, ONE_GPU)
    engine.enqueue([_of_w("a", queue="side")])
    [claim] = engine.claim("s", demand(1, queues=("side",))).claims
    engine.enqueue([job(id="foreign", priority=9, flow=GPU), _of_w("next")])
    assert take(engine, 5) == ()

    settle(engine, msgspec.structs.replace(outcome, token=claim.token))

    assert ids(take(engine, 5)) == ["next"]


# --- where --------------------------------------------------------------------------------
def test_a_later_job_runs_on_the_reservations_worker_only(harness: Harness) -> None:
    engine = _reserved(harness, ONE_GPU)
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=TWO_GPUS))
    engine.enqueue([_of_w("a")])

    assert take(engine, 5, by="t") == ()
    assert ids(take(engine, 5)) == ["a"]


def test_meanwhile_jobs_of_others_pass_it_on_another_worker(harness: Harness) -> None:
    engine = _reserved(harness, ONE_GPU)
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=TWO_GPUS))
    engine.enqueue([_of_w("a"), _of_w("b"), job(id="foreign", flow=GPU)])

    assert ids(take(engine, 5, by="t")) == ["foreign"]


def test_any_session_of_the_worker_may_take_it(harness: Harness) -> None:
    engine = _reserved(harness, ONE_GPU)
    engine.join(session(id="t", worker="boss", queues=(QUEUE,), offers=ONE_GPU))
    engine.enqueue([_of_w("a")])

    assert ids(take(engine, 5, by="t")) == ["a"]


def test_jobs_that_want_nothing_that_is_reserved_run_anywhere(harness: Harness) -> None:
    engine = _reserved(harness, ONE_GPU)
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers={"memory_gb": {"": 8.0}}))
    engine.enqueue([job(id="a", workflow="w"), _of_w("b", flow=wanting(memory_gb=8))])

    assert ids(take(engine, 5, by="t")) == ["a", "b"]


def test_one_that_wants_more_than_is_reserved_is_placed_anywhere(harness: Harness) -> None:
    engine = _reserved(harness, {"gpu": {"0": 1.0, "1": 1.0, "2": 1.0}})
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=TWO_GPUS))
    engine.enqueue([_of_w("a", flow=wanting(gpu=2)), _of_w("b", flow=wanting(gpu=2))])

    assert [claim.units for claim in take(engine, 5)] == [{"gpu": {"1": 1.0, "2": 1.0}}]
    assert ids(take(engine, 5, by="t")) == ["b"]


def test_one_that_wants_what_the_worker_never_has_is_placed_anywhere(harness: Harness) -> None:
    engine = _reserved(harness, ONE_GPU)
    offers: Amounts = {"gpu": {"0": 1.0}, "disk": {"": 1.0}}
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=offers))
    engine.enqueue([_of_w("a", flow=wanting(gpu=1, disk=1))])

    assert ids(take(engine, 5, by="t")) == ["a"]


def test_a_workflow_may_have_reservations_on_two_workers(harness: Harness) -> None:
    engine = _worker(harness, ONE_GPU)
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers={"gpu": {"7": 1.0}}))
    engine.enqueue([_of_w("first"), _of_w("second"), _waits()])
    for by, claim in [(by, take_one(engine, by=by)) for by in ("s", "t")]:
        settle(engine, Succeeded(claim.token, keeps=("gpu",)), by=by)
    engine.join(session(id="u", worker="third", queues=(QUEUE,), offers=ONE_GPU))
    engine.enqueue([job(id="foreign", priority=9, flow=GPU), _of_w("a"), _of_w("b"), _of_w("c")])

    assert take_one(engine).units == ONE_GPU
    assert take_one(engine, by="t").units == {"gpu": {"7": 1.0}}
    assert [take(engine, 5), take(engine, 5, by="t")] == [(), ()]
    assert ids(take(engine, 5, by="u")) == ["foreign"]


def test_each_workflow_has_its_own(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([_of_w("first"), job(id="second", workflow="v", flow=GPU)])
    engine.enqueue([_waits(), job(id="waits too", workflow="v", delay_s=1e6)])
    for claim in take(engine, 2):
        settle(engine, Succeeded(claim.token, keeps=("gpu",)))
    engine.enqueue([_of_w("a"), _of_w("b"), job(id="c", workflow="v", flow=GPU)])

    assert {c.job_id: c.units["gpu"] for c in take(engine, 5)} == {"a": {"0": 1.0}, "c": {"1": 1.0}}


def test_a_failure_that_sends_a_job_elsewhere_sends_it_back_to_the_reservation(harness: Harness) -> None:
    engine = _reserved(harness, ONE_GPU)
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=ONE_GPU))
    engine.enqueue([_of_w("a")])

    settle(engine, Failed(take_one(engine).token, "error", retry_in_s=0.0, elsewhere=True))

    assert take(engine, 5, by="t") == ()
    assert ids(take(engine, 5)) == ["a"]


# --- patience -----------------------------------------------------------------------------
def test_it_does_not_wait_for_a_large_job_that_is_waited_for(harness: Harness) -> None:
    engine = _reserved(harness, TWO_GPUS)
    engine.enqueue([job(id="large", task="other", priority=9, flow=wanting(gpu=2))])
    assert take(engine, 5) == ()
    harness.advance(PATIENCE_S + 1)
    engine.enqueue([_of_w("a"), job(id="small", flow=GPU)])

    assert ids(take(engine, 5)) == ["a"]


def test_no_job_waits_for_one_that_waits_for_its_reservation(harness: Harness) -> None:
    engine = _reserved(harness, TWO_GPUS)
    engine.enqueue([_of_w("a"), _of_w("b", task="other", priority=9)])
    assert len(take(engine, 5)) == 1
    harness.advance(PATIENCE_S + 1)
    engine.enqueue([job(id="foreign", priority=0, flow=GPU)])

    assert ids(take(engine, 5)) == ["foreign"]


# --- seen ---------------------------------------------------------------------------------
def test_what_a_worker_keeps_for_a_large_job_is_not_shown_as_kept_from_one_that_draws(
    harness: Harness,
) -> None:
    engine = _reserved(harness, TWO_GPUS)
    engine.enqueue([job(id="large", task="other", priority=9, flow=wanting(gpu=2))])
    assert take(engine, 5) == ()
    harness.advance(PATIENCE_S + 1)
    engine.enqueue([_of_w("a"), job(id="small", flow=GPU)])

    assert [one.job_id for one in _around(engine, "small").kept] == ["large"]
    assert _around(engine, "a").kept == ()


def test_nothing_is_shown_as_kept_for_a_job_that_draws_by_now(harness: Harness) -> None:
    engine = _worker(harness, {"gpu": {"0": 1.0, "1": 1.0, "2": 1.0}})
    engine.enqueue([_of_w("first", flow=wanting(gpu=2)), job(id="foreign", flow=GPU), _waits()])
    first, _ = take(engine, 5)
    engine.enqueue([_of_w("large", task="other", flow=wanting(gpu=2))])
    assert take(engine, 5) == ()
    harness.advance(PATIENCE_S + 1)
    engine.enqueue([job(id="small", flow=GPU)])
    assert [one.job_id for one in _around(engine, "small").kept] == ["large"]

    settle(engine, Succeeded(first.token, keeps=("gpu",)))

    assert _around(engine, "small").kept == ()
    assert ids(take(engine, 5)) == ["large"]


def test_what_is_reserved_is_shown_with_who_began_it(harness: Harness) -> None:
    engine = _reserved(harness, ONE_GPU)
    harness.advance(10)
    engine.enqueue([job(id="foreign", flow=GPU)])

    around = _around(engine, "foreign")

    [shown] = around.reserved
    assert (shown.workflow, shown.worker, shown.job_id) == ("w", "boss", "first")
    assert (shown.units, shown.used, shown.offers) == (ONE_GPU, {}, ONE_GPU)
    assert near(around.now - shown.since, 10.0)
    assert not any(around.taken.values())


def test_what_is_drawn_of_it_is_shown_and_as_taken_too(harness: Harness) -> None:
    engine = _reserved(harness, TWO_GPUS, flow=wanting(gpu=2))
    engine.enqueue([_of_w("a"), job(id="foreign", flow=GPU)])
    take(engine, 5)

    around = _around(engine, "foreign")

    [shown] = around.reserved
    assert (shown.units, shown.used) == (TWO_GPUS, {"gpu": {"0": 1.0}})
    assert [one.units for one in around.taken["s"]] == [{"gpu": {"0": 1.0}}]


def test_all_that_is_reserved_is_shown_by_worker_and_workflow(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=ONE_GPU))
    engine.enqueue([job(id=f"first {name}", workflow=name, flow=GPU) for name in ("w", "v", "u")])
    engine.enqueue([job(id=f"waits {name}", workflow=name, delay_s=1e6) for name in ("w", "v", "u")])
    for claim in take(engine, 2):
        settle(engine, Succeeded(claim.token, keeps=("gpu",)))
    settle(engine, Succeeded(take_one(engine, by="t").token, keeps=("gpu",)), by="t")

    shown = [(one.worker, one.workflow) for one in _around(engine, "waits w").reserved]

    assert shown == [("another", "u"), ("boss", "v"), ("boss", "w")]


def test_a_sweep_leaves_it_while_a_job_of_the_workflow_is_live(harness: Harness) -> None:
    engine = _reserved(harness, ONE_GPU)
    engine.enqueue([job(id="foreign", flow=GPU)])

    sweep(engine)

    assert take(engine, 5) == ()


def _around(engine: Engine, job_id: str) -> Surroundings:
    """Return what stands between a job and its start; it must be known."""
    around = engine.surroundings(job_id)
    assert around is not None, f"job {job_id} is unknown"
    return around


def _reserved(harness: Harness, offers: Amounts, *, flow: Flow = GPU) -> Engine:
    """Return an engine where the workflow w has reserved of "boss" the first that `flow` wants."""
    engine = _worker(harness, offers)
    engine.enqueue([_of_w("first", flow=flow), _waits()])
    [name, *_] = [name for name, _ in flow.resources]
    settle(engine, Succeeded(take_one(engine).token, keeps=(name,)))
    return engine


def _of_w(job_id: str, *, flow: Flow = GPU, **options: object) -> NewJob:
    """Return a job of the workflow w."""
    return msgspec.structs.replace(job(id=job_id, workflow="w", flow=flow), **options)


def _waits() -> NewJob:
    """Return a job that keeps the workflow w live."""
    return job(id="waits", workflow="w", delay_s=1e6)


def _worker(harness: Harness, offers: Amounts) -> Engine:
    """Return an engine with the session "s" of a worker that has so much."""
    engine = harness.engine()
    engine.join(session(id="s", worker="boss", queues=(QUEUE,), offers=offers))
    return engine
