"""Where a job asks for ageing, waiting weighs as much as priority, so that nobody starves."""

from __future__ import annotations

from cicely.testing.conformance.bench import ids, job, session, sweep, take
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.AGEING})


def test_long_waiting_outweighs_a_step_of_priority(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="old", priority=4, ageing_s=60)])
    harness.advance(61)
    engine.enqueue([job(id="new", priority=5, ageing_s=60)])

    assert ids(take(engine, 2)) == ["old", "new"]


def test_short_waiting_does_not_outweigh_a_step_of_priority(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="old", priority=4, ageing_s=60)])
    harness.advance(59)
    engine.enqueue([job(id="new", priority=5, ageing_s=60)])

    assert ids(take(engine, 2)) == ["new", "old"]


def test_a_scheduled_job_ages_from_its_due_time(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="due", priority=4, ageing_s=60, delay_s=1000)])
    harness.advance(1059)
    sweep(engine)
    engine.enqueue([job(id="new", priority=5, ageing_s=60)])

    assert ids(take(engine, 2)) == ["new", "due"]
