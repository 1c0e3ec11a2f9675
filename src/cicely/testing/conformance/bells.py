"""An armed bell is rung for new work, for cancellations and for ends; a ring is only a hint."""

from __future__ import annotations

from cicely.core.outcome import Failed, HandedBack, Succeeded
from cicely.testing.conformance.bench import (
    SILENCE_S,
    armed,
    job,
    rings,
    session,
    settle,
    silent,
    start,
    sweep,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.BELLS})


def test_an_armed_bell_rings_for_a_new_job(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    with armed(engine.doorbell("s")) as bell:
        harness.engine().enqueue([job(id="a")])

        assert rings(bell)


def test_a_bell_that_is_not_armed_stays_silent(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    with armed(engine.doorbell("s")) as bell:
        bell.disarm()
        engine.enqueue([job(id="a")])

        assert not rings(bell, SILENCE_S)


def test_disarming_forgets_the_rings_so_far(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    with armed(engine.doorbell("s")) as bell:
        engine.enqueue([job(id="a")])
        assert rings(bell)

        bell.disarm()

        assert not rings(bell, SILENCE_S)


def test_a_bell_rings_again_after_it_was_armed_again(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    with armed(engine.doorbell("s")) as bell:
        engine.enqueue([job(id="a")])
        bell.disarm()
        bell.arm()

        engine.enqueue([job(id="b")])

        assert rings(bell)


def test_a_hand_backrings(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.join(session(id="idle"))
    with armed(engine.doorbell("idle")) as bell:
        settle(engine, HandedBack(claim.token))

        assert rings(bell)


def test_retiring_a_session_rings_for_what_it_held(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    engine.join(session(id="idle"))
    with armed(engine.doorbell("idle")) as bell:
        engine.retire("s")

        assert rings(bell)


def test_a_rescue_rings_for_what_it_took_back(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    engine.join(session(id="idle"))
    with armed(engine.doorbell("idle")) as bell:
        sweep(engine, silent(engine))

        assert rings(bell)


def test_resuming_a_queuerings(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.pause("main")
    engine.enqueue([job(id="a")])
    with armed(engine.doorbell("s")) as bell:
        engine.resume("main")

        assert rings(bell)


def test_no_ring_for_work_is_spent_on_a_supervisor(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="boss", tasks=frozenset()))
    engine.join(session(id="s"))
    with armed(engine.doorbell("boss")) as supervisors, armed(engine.doorbell("s")) as bell:
        engine.enqueue([job(id="a")])

        assert rings(bell)
        assert not rings(supervisors, 0.1)


def test_a_claim_that_leaves_work_rings_the_next_session(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="idle"))
    engine.enqueue([job(id="left")])
    with armed(engine.doorbell("idle")) as bell:
        start(engine, job(id="a", priority=9))

        assert rings(bell)


def test_cancelling_a_running_job_rings_its_worker(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="boss"))
    start(engine, job(id="a"))
    with armed(engine.doorbell("boss")) as bell:
        engine.steer("cancel", ["a"])

        assert rings(bell)


def test_a_success_rings_those_who_wait_for_it(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    with armed(harness.engine().result_bell(["a", "b"])) as bell:
        settle(engine, Succeeded(claim.token))

        assert rings(bell)


def test_a_failure_rings_those_who_wait_for_it(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    with armed(engine.result_bell(["a"])) as bell:
        settle(engine, Failed(claim.token, "error"))

        assert rings(bell)


def test_a_cancellation_rings_those_who_wait_for_it(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])
    with armed(engine.result_bell(["a"])) as bell:
        engine.steer("cancel", ["a"])

        assert rings(bell)


def test_a_bell_may_be_closed_twice(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    bell = engine.doorbell("s")
    bell.close()

    bell.close()

    assert engine.enqueue([job(id="a")])[0].fresh


def test_a_ring_without_a_listener_harms_nobody(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    bell = engine.doorbell("s")
    bell.arm()
    bell.close()

    assert engine.enqueue([job(id="a")])[0].fresh
