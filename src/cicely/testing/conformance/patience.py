"""Small jobs pass a large one that waits for room on a worker, but not for ever."""

from __future__ import annotations

from cicely.core.flow import Flow, Use
from cicely.core.limits import Limit
from cicely.core.outcome import HandedBack, Succeeded
from cicely.core.resources import PATIENCE_S, Amounts
from cicely.engines.contract import Engine
from cicely.testing.conformance.bench import (
    QUEUE,
    demand,
    ids,
    job,
    session,
    settle,
    take,
    take_one,
    using,
    wanting,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

TWO_GPUS: Amounts = {"gpu": {"0": 1.0, "1": 1.0}}
#: Longer than a job is passed over.
LONG_S = PATIENCE_S + 1.0


def test_small_jobs_pass_a_large_one_for_a_while(harness: Harness) -> None:
    engine = _waiting_for_both(harness)

    assert ids(take(engine, 1)) == ["small0"]


def test_after_a_while_the_room_is_kept_for_the_large_one(harness: Harness) -> None:
    engine = _waiting_for_both(harness)
    [small] = take(engine, 1)
    harness.advance(LONG_S)
    settle(engine, Succeeded(small.token))

    assert take(engine, 5) == ()


def test_the_large_one_starts_when_there_is_room_for_it(harness: Harness) -> None:
    engine = _waiting_for_both(harness)
    harness.advance(LONG_S)
    assert take(engine, 5) == ()

    engine.retire("holder")

    assert ids(take(engine, 1)) == ["large"]


def test_the_large_one_runs_though_small_ones_never_cease(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([job(id="first", flow=wanting(gpu=1))])
    running = [take_one(engine)]
    engine.enqueue([job(id="large", task="other", flow=wanting(gpu=2))])
    taken = []

    for step in range(16):
        engine.enqueue([job(id=f"small{step:02}", flow=wanting(gpu=1))])
        running += take(engine)
        taken += ids(running[-1:])
        harness.advance(5)
        settle(engine, Succeeded(running.pop(0).token))

    assert taken[:12] == [f"small{step:02}" for step in range(12)]
    assert "large" in taken


def test_one_like_it_that_goes_first_takes_the_room(harness: Harness) -> None:
    engine = _waiting_for_both(harness)
    harness.advance(LONG_S)
    twin = Flow(uses=(Use("api"),), resources=(("gpu", 2.0),))
    engine.enqueue([job(id="twin", priority=9, task="other", flow=twin)])

    engine.retire("holder")

    assert ids(take(engine, 1)) == ["twin"]


def test_meanwhile_jobs_that_want_something_else_pass(harness: Harness) -> None:
    engine = _waiting_for_both(harness)
    harness.advance(LONG_S)
    engine.enqueue([job(id="plain", priority=0), job(id="disk", flow=wanting(disk=1))])

    assert ids(take(engine, 5)) == ["disk", "plain"]


def test_meanwhile_small_jobs_pass_on_another_worker(harness: Harness) -> None:
    engine = _waiting_for_both(harness)
    harness.advance(LONG_S)
    engine.join(session(id="t", worker="another", offers={"gpu": {"7": 1.0}}))

    assert ids(take(engine, 1, by="t")) == ["small0"]


def test_when_the_large_one_runs_small_ones_pass_again(harness: Harness) -> None:
    engine = _waiting_for_both(harness)
    harness.advance(LONG_S)
    take(engine, 5)
    engine.join(session(id="t", worker="another", offers=TWO_GPUS))
    assert ids(take(engine, 1, by="t")) == ["large"]

    assert ids(take(engine, 5)) == ["small0"]


def test_one_that_comes_back_is_waited_for_anew(harness: Harness) -> None:
    engine = _waiting_for_both(harness)
    harness.advance(LONG_S)
    engine.join(session(id="t", worker="another", offers=TWO_GPUS))
    claim = take_one(engine, by="t")
    settle(engine, HandedBack(claim.token), by="t")

    assert claim.job_id == "large"
    assert ids(take(engine, 5)) == ["small0"]


def test_when_the_large_one_is_cancelled_small_ones_pass_again(harness: Harness) -> None:
    engine = _waiting_for_both(harness)
    harness.advance(LONG_S)
    take(engine, 5)

    engine.steer("cancel", ["large"])

    assert ids(take(engine, 5)) == ["small0"]


def test_nothing_is_kept_for_a_job_of_a_paused_queue(harness: Harness) -> None:
    engine = _waiting_for_both(harness)
    harness.advance(LONG_S)
    engine.enqueue([job(id="b", queue="side", flow=wanting(gpu=1))])

    engine.pause("main")

    assert ids(engine.claim("s", demand(5, queues=("main", "side")))) == ["b"]


def test_nothing_is_kept_for_a_job_that_its_limits_hold_back(harness: Harness) -> None:
    engine = _waiting_for_both(harness)
    harness.advance(LONG_S)
    assert take(engine, 5) == ()

    engine.enqueue([job(id="calls", priority=9, flow=using("api"))])
    engine.configure([Limit(key="api", concurrency=1)])

    assert ids(take(engine, 5)) == ["calls", "small0"]


def test_nothing_is_kept_for_a_job_that_fits_nowhere(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([job(id="huge", priority=9, flow=wanting(gpu=8))])
    take(engine, 5)
    harness.advance(LONG_S)
    engine.enqueue([job(id="small", flow=wanting(gpu=1))])

    assert ids(take(engine, 5)) == ["small"]


def _waiting_for_both(harness: Harness) -> Engine:
    """Return an engine where a job waits for both units, of which another session holds one."""
    engine = _worker(harness, {**TWO_GPUS, "disk": {"": 1.0}})
    engine.join(session(id="holder", queues=(QUEUE,), offers=TWO_GPUS))
    engine.enqueue([job(id="long", flow=wanting(gpu=1))])
    take(engine, 1, by="holder")
    large = Flow(uses=(Use("api"),), resources=(("gpu", 2.0),))
    engine.enqueue([job(id="large", priority=8, task="other", flow=large)])
    assert take(engine, 5) == ()
    engine.enqueue([job(id=f"small{n}", flow=wanting(gpu=1)) for n in range(3)])
    return engine


def _worker(harness: Harness, offers: Amounts) -> Engine:
    """Return an engine with the session "s" of a worker that has so much."""
    engine = harness.engine()
    engine.join(session(id="s", worker="boss", queues=(QUEUE,), offers=offers))
    return engine
