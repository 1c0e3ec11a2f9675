"""Bells ring for what can start: jobs that are held back wake nobody; whatever lets them go does."""

from __future__ import annotations

from cicely.core.flow import Flow, Use
from cicely.core.limits import Limit
from cicely.core.outcome import Succeeded
from cicely.engines.contract import Engine
from cicely.testing.conformance.bench import (
    QUEUE,
    SILENCE_S,
    armed,
    job,
    rings,
    session,
    settle,
    silent,
    start,
    sweep,
    take_one,
    using,
    wanting,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.BELLS, Capability.FLOW})


# --- held back ----------------------------------------------------------------------------
def test_a_job_that_a_limit_holds_back_rings_nobody(harness: Harness) -> None:
    engine, _ = _full(harness)
    with armed(engine.doorbell("idle")) as bell:
        engine.enqueue([job(id="another", flow=using("api"))])

        assert not rings(bell, SILENCE_S)


def test_a_claim_that_leaves_only_what_is_held_back_rings_nobody(harness: Harness) -> None:
    engine, _ = _full(harness)
    with armed(engine.doorbell("idle")) as bell:
        engine.enqueue([job(id="plain")])
        assert rings(bell)
        bell.disarm()
        bell.arm()

        take_one(engine)

        assert not rings(bell, SILENCE_S)


def test_a_job_behind_an_open_breaker_rings_nobody(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="idle", queues=(QUEUE,)))
    engine.turn("db", "trip")
    with armed(engine.doorbell("idle")) as bell:
        engine.enqueue([job(id="a", flow=Flow(breakers=("db",)))])

        assert not rings(bell, SILENCE_S)


def test_a_job_whose_resource_is_taken_rings_nobody(harness: Harness) -> None:
    engine = harness.engine()
    for name in ("s", "idle"):
        engine.join(session(id=name, queues=(QUEUE,), offers={"gpu": {"0": 1.0}}))
    engine.enqueue([job(id="a", flow=wanting(gpu=1))])
    take_one(engine)
    with armed(engine.doorbell("idle")) as bell:
        engine.enqueue([job(id="b", flow=wanting(gpu=1))])

        assert not rings(bell, SILENCE_S)


def test_a_job_that_only_another_worker_could_run_rings_that(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="idle", worker="small", queues=(QUEUE,)))
    engine.join(session(id="large", worker="large", queues=(QUEUE,), offers={"gpu": {"0": 1.0}}))
    with armed(engine.doorbell("idle")) as idle, armed(engine.doorbell("large")) as large:
        engine.enqueue([job(id="a", flow=wanting(gpu=1))])

        assert rings(large)
        assert not rings(idle, SILENCE_S)


def test_a_job_that_a_worker_does_not_accept_rings_one_that_does(harness: Harness) -> None:
    engine = harness.engine()
    accepts = {"model": ("haiku",)}
    engine.join(session(id="idle", worker="picky", queues=(QUEUE,), accepts=accepts))
    engine.join(session(id="other", worker="other", queues=(QUEUE,)))
    with armed(engine.doorbell("idle")) as idle, armed(engine.doorbell("other")) as other:
        engine.enqueue([job(id="a", flow=Flow(traits=("model=opus",)))])

        assert rings(other)
        assert not rings(idle, SILENCE_S)


def test_a_plain_job_rings_whatever_is_held_back_before_it(harness: Harness) -> None:
    engine, _ = _full(harness)
    with armed(engine.doorbell("idle")) as bell:
        engine.enqueue([job(id="plain", priority=0)])

        assert rings(bell)


# --- let go -------------------------------------------------------------------------------
def test_an_end_that_makes_room_rings(harness: Harness) -> None:
    engine, token = _full(harness)
    with armed(engine.doorbell("idle")) as bell:
        settle(engine, Succeeded(token))

        assert rings(bell)


def test_retiring_a_holder_rings(harness: Harness) -> None:
    engine, _ = _full(harness)
    with armed(engine.doorbell("idle")) as bell:
        engine.retire("s")

        assert rings(bell)


def test_rescuing_a_holder_rings(harness: Harness) -> None:
    engine, _ = _full(harness)
    with armed(engine.doorbell("idle")) as bell:
        sweep(engine, silent(engine))

        assert rings(bell)


def test_a_raised_limit_rings(harness: Harness) -> None:
    engine, _ = _full(harness)
    with armed(engine.doorbell("idle")) as bell:
        engine.configure([Limit(key="api", concurrency=2)])

        assert rings(bell)


def test_a_limit_that_is_unset_rings(harness: Harness) -> None:
    engine, _ = _full(harness)
    with armed(engine.doorbell("idle")) as bell:
        engine.unset("limit", "api")

        assert rings(bell)


def test_a_breaker_that_is_reset_rings(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="idle", queues=(QUEUE,)))
    engine.turn("db", "trip")
    engine.enqueue([job(id="a", flow=Flow(breakers=("db",)))])
    with armed(engine.doorbell("idle")) as bell:
        engine.turn("db", "reset")

        assert rings(bell)


def test_what_a_running_job_releases_rings(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([Limit(key="api", concurrency=1)])
    claim = start(engine, job(id="a"))
    engine.acquire("s", claim.token, b"request!", [Use("api")])
    engine.enqueue([job(id="waits", flow=using("api"))])
    engine.join(session(id="idle", queues=(QUEUE,)))
    with armed(engine.doorbell("idle")) as bell:
        engine.release("s", claim.token, b"request!", {})

        assert rings(bell)


def test_a_resource_that_is_free_again_rings(harness: Harness) -> None:
    engine = harness.engine()
    for name in ("s", "idle"):
        engine.join(session(id=name, queues=(QUEUE,), offers={"gpu": {"0": 1.0}}))
    engine.enqueue([job(id="a", flow=wanting(gpu=1)), job(id="b", flow=wanting(gpu=1))])
    claim = take_one(engine)
    with armed(engine.doorbell("idle")) as bell:
        settle(engine, Succeeded(claim.token))

        assert rings(bell)


def test_a_cancelled_jobs_end_rings_for_the_next(harness: Harness) -> None:
    engine, token = _full(harness)
    with armed(engine.doorbell("idle")) as bell:
        engine.steer("cancel", ["a"])
        assert not rings(bell, SILENCE_S)

        settle(engine, Succeeded(token))

        assert rings(bell)


def _full(harness: Harness) -> tuple[Engine, bytes]:
    """Return an engine where one job holds a limit and another waits for it, and the first one's token."""
    engine = harness.engine()
    engine.configure([Limit(key="api", concurrency=1)])
    claim = start(engine, job(id="a", flow=using("api")))
    engine.enqueue([job(id="waits", flow=using("api"))])
    engine.join(session(id="idle", queues=(QUEUE,)))
    return engine, claim.token
