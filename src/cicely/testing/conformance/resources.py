"""Jobs are given of what their worker has: named units, each once, packed; ends give them back."""

from __future__ import annotations

import msgspec

from cicely.core.flow import Flow, Use
from cicely.core.limits import Limit
from cicely.core.outcome import Crashed, Deferred, Failed, HandedBack, Outcome, Stopped, Succeeded, Suspended
from cicely.core.resources import Amounts
from cicely.engines.contract import Engine
from cicely.testing.conformance.bench import (
    QUEUE,
    beat,
    demand,
    ids,
    job,
    look,
    message,
    receive_demand,
    session,
    settle,
    silent,
    sweep,
    take,
    take_one,
    wanting,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

TWO_GPUS: Amounts = {"gpu": {"0": 1.0, "1": 1.0}}


# --- units --------------------------------------------------------------------------------
def test_each_job_is_given_a_unit_of_its_own(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([job(id=f"j{n}", flow=wanting(gpu=1)) for n in range(3)])

    claims = take(engine, 5)

    assert [claim.units for claim in claims] == [{"gpu": {"0": 1.0}}, {"gpu": {"1": 1.0}}]


def test_a_unit_that_was_given_back_is_given_again(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([job(id=f"j{n}", flow=wanting(gpu=1)) for n in range(3)])
    first, _ = take(engine, 2)

    settle(engine, Succeeded(first.token))

    assert take_one(engine).units == {"gpu": {"0": 1.0}}


def test_a_job_that_wants_several_gets_as_many(harness: Harness) -> None:
    engine = _worker(harness, {"gpu": {str(n): 1.0 for n in range(4)}})
    engine.enqueue([job(id="a", flow=wanting(gpu=3)), job(id="b", flow=wanting(gpu=2))])

    [claim] = take(engine, 5)

    assert claim.units == {"gpu": {"0": 1.0, "1": 1.0, "2": 1.0}}


def test_what_is_counted_is_shared_until_it_is_used_up(harness: Harness) -> None:
    engine = _worker(harness, {"memory_gb": {"": 64.0}})
    engine.enqueue([job(id=f"j{n}", flow=wanting(memory_gb=24)) for n in range(4)])

    claims = take(engine, 5)

    assert [claim.units for claim in claims] == [{"memory_gb": {"": 24.0}}] * 2


def test_small_jobs_are_packed_on_one_device_and_leave_the_other_free(harness: Harness) -> None:
    engine = _worker(harness, {"gpu_memory_gb": {"0": 80.0, "1": 80.0}})
    wants = [24.0, 24.0, 80.0, 24.0]
    engine.enqueue([job(id=f"j{n}", flow=wanting(gpu_memory_gb=want)) for n, want in enumerate(wants)])

    given = [claim.units["gpu_memory_gb"] for claim in take(engine, 5)]

    assert given == [{"0": 24.0}, {"0": 24.0}, {"1": 80.0}, {"0": 24.0}]


def test_a_part_of_a_unit_goes_where_it_fits_best(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([job(id=f"j{n}", flow=wanting(gpu=0.5)) for n in range(5)])

    given = [claim.units["gpu"] for claim in take(engine, 5)]

    assert given == [{"0": 0.5}, {"0": 0.5}, {"1": 0.5}, {"1": 0.5}]


def test_sums_of_decimals_fill_a_unit(harness: Harness) -> None:
    engine = _worker(harness, {"memory_gb": {"": 0.3}})
    engine.enqueue([job(id=f"j{n}", flow=wanting(memory_gb=0.1)) for n in range(4)])

    assert len(take(engine, 5)) == 3


def test_several_resources_are_given_together_or_not_at_all(harness: Harness) -> None:
    engine = _worker(harness, {"gpu": {"0": 1.0}, "memory_gb": {"": 64.0}})
    engine.enqueue([job(id="a", flow=wanting(gpu=1, memory_gb=16))])
    engine.enqueue([job(id="b", flow=wanting(gpu=1, memory_gb=16))])
    engine.enqueue([job(id="c", flow=wanting(memory_gb=48))])

    claims = take(engine, 5)

    assert ids(claims) == ["a", "c"]
    assert claims[0].units == {"gpu": {"0": 1.0}, "memory_gb": {"": 16.0}}


def test_a_running_job_shows_what_it_was_given(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([job(id="a", flow=wanting(gpu=1))])
    claim = take_one(engine)

    assert look(engine).units == {"gpu": {"0": 1.0}}
    settle(engine, Succeeded(claim.token))
    assert look(engine).units == {}


def test_repeating_a_claim_returns_the_same_units(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([job(id=f"j{n}", flow=wanting(gpu=1)) for n in range(3)])
    wanted = demand(2)

    first, again = (engine.claim("s", wanted).claims for _ in range(2))

    assert sorted(first, key=lambda claim: claim.job_id) == sorted(again, key=lambda claim: claim.job_id)


def test_a_job_that_a_claim_looked_at_and_left_shows_nothing(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([job(id="a", flow=wanting(gpu=1))])

    engine.claim("s", demand(0, pace={"other": 0.1}, buffer_s=1.0, limit=5))

    assert look(engine).units == {}


# --- whose they are -----------------------------------------------------------------------
def test_the_sessions_of_a_worker_share_what_it_has(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.join(session(id="t", worker="boss", queues=(QUEUE,), offers=TWO_GPUS))
    engine.enqueue([job(id=f"j{n}", flow=wanting(gpu=1)) for n in range(3)])

    assert take_one(engine).units == {"gpu": {"0": 1.0}}
    assert take_one(engine, by="t").units == {"gpu": {"1": 1.0}}
    assert take(engine) == ()


def test_each_worker_has_its_own(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.join(session(id="t", worker="another", queues=(QUEUE,), offers=TWO_GPUS))
    engine.enqueue([job(id=f"j{n}", flow=wanting(gpu=2)) for n in range(3)])

    both = {"gpu": {"0": 1.0, "1": 1.0}}
    assert take_one(engine).units == both
    assert take_one(engine, by="t").units == both


def test_no_job_waits_for_those_that_wait_for_a_resource(harness: Harness) -> None:
    engine = _worker(harness, {"gpu": {"0": 1.0}})
    engine.join(session(id="t", worker="another", queues=(QUEUE,)))
    engine.enqueue([job(id=f"g{n}", priority=9, flow=wanting(gpu=1)) for n in range(2)])
    engine.enqueue([job(id=f"c{n:03}") for n in range(200)])

    taken = ids(take(engine, 100)) + ids(take(engine, 150, by="t"))

    assert taken == ["g0", *[f"c{n:03}" for n in range(200)]]


def test_both_scarce_jobs_run_as_soon_as_there_is_room(harness: Harness) -> None:
    engine = _worker(harness, {"gpu": {"0": 1.0}})
    engine.enqueue([job(id=f"c{n:03}") for n in range(50)])
    engine.enqueue([job(id=f"g{n}", priority=9, flow=wanting(gpu=1)) for n in range(2)])

    first = take_one(engine)
    settle(engine, Succeeded(first.token))

    assert [first.job_id, take_one(engine).job_id] == ["g0", "g1"]


def test_a_session_that_has_nothing_takes_only_what_wants_nothing(harness: Harness) -> None:
    engine = _worker(harness, {})
    engine.enqueue([job(id="a", flow=wanting(gpu=1)), job(id="b")])

    assert ids(take(engine, 5)) == ["b"]


def test_what_no_worker_has_is_accepted_and_waits(harness: Harness) -> None:
    engine = _worker(harness, TWO_GPUS)
    engine.enqueue([job(id="a", flow=wanting(gpu=8)), job(id="b", flow=wanting(gpu=1))])
    assert ids(take(engine, 5)) == ["b"]

    engine.join(session(id="t", worker="large", offers={"gpu": {str(n): 1.0 for n in range(8)}}))

    assert ids(take(engine, 5, by="t")) == ["a"]


def test_a_job_that_waits_for_a_limit_keeps_no_resource(harness: Harness) -> None:
    engine = _worker(harness, {"gpu": {"0": 1.0}})
    engine.configure([Limit(key="api", concurrency=1)])
    both = Flow(uses=(Use("api"),), resources=(("gpu", 1.0),))
    engine.enqueue([job(id="a", flow=Flow(uses=(Use("api"),))), job(id="b", flow=both)])
    engine.enqueue([job(id="c", flow=wanting(gpu=1))])

    assert ids(take(engine, 5)) == ["a", "c"]


def test_a_job_that_waits_for_a_resource_takes_nothing_of_its_limits(harness: Harness) -> None:
    engine = _worker(harness, {"gpu": {"0": 1.0}})
    engine.configure([Limit(key="api", concurrency=1)])
    both = Flow(uses=(Use("api"),), resources=(("gpu", 1.0),))
    engine.enqueue([job(id="a", flow=wanting(gpu=1)), job(id="b", flow=both)])
    engine.enqueue([job(id="c", flow=Flow(uses=(Use("api"),)))])

    assert ids(take(engine, 5)) == ["a", "c"]


# --- given back ---------------------------------------------------------------------------
def test_a_success_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Succeeded(b""))


def test_a_failure_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Failed(b"", "error"))


def test_a_failure_that_is_retried_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Failed(b"", "error", retry_in_s=100.0))


def test_a_crash_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Crashed(b"", "killed by signal 9"))


def test_a_hand_back_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, HandedBack(b""))


def test_a_deferral_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Deferred(b"", 100.0))


def test_a_suspension_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Suspended(b"", delay_s=100.0))


def test_a_running_job_that_was_asked_to_end_keeps_it_until_it_has(harness: Harness) -> None:
    engine, token = _holding(harness)

    engine.steer("cancel", ["a"])

    assert take(engine, 5) == ()
    settle(engine, Stopped(token))
    assert ids(take(engine, 5)) == ["next"]


def test_retiring_a_session_gives_back(harness: Harness) -> None:
    engine, _ = _holding(harness)
    engine.join(session(id="t", offers={"gpu": {"0": 1.0}}))

    engine.retire("s")

    assert ids(take(engine, 5, by="t")) == ["next"]


def test_a_rescue_gives_back(harness: Harness) -> None:
    engine, _ = _holding(harness)
    engine.join(session(id="t", offers={"gpu": {"0": 1.0}}))

    sweep(engine, silent(engine))

    assert ids(take(engine, 5, by="t")) == ["next"]


def test_a_claim_whose_reply_was_lost_gives_back(harness: Harness) -> None:
    engine, _ = _holding(harness)

    beat(engine)
    beat(engine)

    assert ids(take(engine, 5)) == ["next"]


def test_a_message_past_its_deadline_gives_back(harness: Harness) -> None:
    engine = _worker(harness, {"gpu": {"0": 1.0}})
    engine.enqueue([message(id="m", flow=wanting(gpu=1))])
    engine.claim("s", receive_demand(1, visibility_s=10))
    engine.enqueue([job(id="next", flow=wanting(gpu=1))])
    assert take(engine, 5) == ()

    harness.advance(11)
    sweep(engine)

    assert ids(take(engine, 5)) == ["next"]


def _check_that_it_gives_back(harness: Harness, outcome: Outcome) -> None:
    """Let the only holder of a unit end so: then the next job is given it."""
    engine, token = _holding(harness)
    assert take(engine, 5) == ()

    settle(engine, msgspec.structs.replace(outcome, token=token))

    assert ids(take(engine, 5)) == ["next"]


def _holding(harness: Harness) -> tuple[Engine, bytes]:
    """Return an engine, and the token of a job that has the only unit; the next one waits."""
    engine = _worker(harness, {"gpu": {"0": 1.0}})
    engine.enqueue([job(id="a", flow=wanting(gpu=1))])
    claim = take_one(engine)
    engine.enqueue([job(id="next", priority=9, flow=wanting(gpu=1))])
    return engine, claim.token


def _worker(harness: Harness, offers: Amounts) -> Engine:
    """Return an engine with the session "s" of a worker that has so much."""
    engine = harness.engine()
    engine.join(session(id="s", worker="boss", queues=(QUEUE,), offers=offers))
    return engine
