"""Lanes share a queue by the seconds that their jobs begin, in proportion to their weights."""

from __future__ import annotations

from collections import Counter

from cicely.core.lanes import LaneWeight
from cicely.core.outcome import Failed, HandedBack, Succeeded
from cicely.engines.contract import Engine
from cicely.testing.conformance.bench import demand, ids, job, look, session, settle, take, take_one
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})


def test_a_single_job_waits_for_at_most_one_of_a_lane_with_many(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 1000)
    _run(harness, engine, 3)

    _fill(engine, "b", 1)

    assert "b000" in _run(harness, engine, 2)


def test_lanes_take_turns(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 3)
    _fill(engine, "b", 3)

    assert ids(take(engine, 6)) == ["a000", "b000", "a001", "b001", "a002", "b002"]


def test_many_lanes_with_one_job_each_go_before_the_second_of_any(harness: Harness) -> None:
    engine = _joined(harness)
    lanes = [f"{n:02}" for n in range(30)]
    _fill(engine, "a", 30)
    for lane in lanes:
        _fill(engine, lane, 1)

    assert Counter(_lanes_of(ids(take(engine, 31)))) == Counter(["a", *lanes])


def test_a_lane_of_three_times_the_weight_gets_three_times_as_much(harness: Harness) -> None:
    engine = _joined(harness)
    engine.configure([LaneWeight("main", "a", 3.0)])
    _fill(engine, "a", 40)
    _fill(engine, "b", 40)

    shares = Counter(_lanes_of(_run(harness, engine, 40)))

    assert 29 <= shares["a"] <= 31


def test_a_weight_counts_from_when_it_was_set(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 60)
    _fill(engine, "b", 60)
    before = Counter(_lanes_of(_run(harness, engine, 20)))

    engine.configure([LaneWeight("main", "b", 4.0)])
    after = Counter(_lanes_of(_run(harness, engine, 40)))

    assert before == {"a": 10, "b": 10}
    assert 31 <= after["b"] <= 33


def test_a_forgotten_weight_is_the_usual_one(harness: Harness) -> None:
    engine = _joined(harness)
    engine.configure([LaneWeight("main", "a", 3.0)])
    engine.unset("lane", "main/a")
    _fill(engine, "a", 10)
    _fill(engine, "b", 10)

    assert Counter(_lanes_of(_run(harness, engine, 10))) == {"a": 5, "b": 5}


def test_a_lane_of_long_jobs_gets_fewer_of_them(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 60)
    _fill(engine, "b", 60)

    shares = Counter(_lanes_of(_run(harness, engine, 55, a=9.5)))

    assert 4 <= shares["a"] <= 6


def test_very_short_jobs_count_alike(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 20)
    _fill(engine, "b", 20)

    assert Counter(_lanes_of(_run(harness, engine, 20, a=0.5, b=0.01))) == {"a": 10, "b": 10}


def test_a_failed_attempt_counts_for_its_lane_as_well(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 5)
    _fill(engine, "b", 20)
    claim = take_one(engine)
    harness.advance(9.5)
    settle(engine, Failed(claim.token, "error", retry_in_s=1000))

    assert _lanes_of(_run(harness, engine, 10)) == ["b"] * 10


def test_a_lane_that_was_away_has_nothing_saved_up(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "b", 1)
    _fill(engine, "a", 100)
    _run(harness, engine, 60)

    _fill(engine, "b", 20, first=1)

    assert abs(Counter(_lanes_of(_run(harness, engine, 10)))["b"] - 5) <= 1


def test_a_lane_owes_nothing_for_what_nobody_waited_for(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 100)
    _run(harness, engine, 60, a=5.0)

    _fill(engine, "b", 20)
    _run(harness, engine, 1)

    assert Counter(_lanes_of(_run(harness, engine, 10))) == {"a": 5, "b": 5}


def test_a_job_that_came_back_unstarted_costs_its_lane_nothing(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 2)
    _fill(engine, "b", 2)

    settle(engine, HandedBack(take_one(engine).token))

    assert ids(take(engine, 2)) == ["a000", "b000"]


def test_a_job_that_came_back_started_costs_its_lane_a_turn(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 2)
    _fill(engine, "b", 2)

    settle(engine, HandedBack(take_one(engine).token, has_started=True))

    assert ids(take(engine, 2)) == ["b000", "a000"]


def test_jobs_without_a_lane_are_one_lane_beside_the_others(harness: Harness) -> None:
    engine = _joined(harness)
    engine.enqueue([job(id=f"-{n:03}") for n in range(100)])
    _run(harness, engine, 3)
    _fill(engine, "a", 10)
    _run(harness, engine, 1)

    assert Counter(_lanes_of(_run(harness, engine, 10))) == {"-": 5, "a": 5}


def test_within_a_lane_the_higher_priority_goes_first(harness: Harness) -> None:
    engine = _joined(harness)
    engine.enqueue([job(id=f"p{priority}", lane="a", priority=priority) for priority in (1, 9, 5)])

    assert ids(take(engine, 3)) == ["p9", "p5", "p1"]


def test_a_priority_does_not_take_another_lanes_turn(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 4, priority=9)
    _fill(engine, "b", 4, priority=0)

    assert Counter(_lanes_of(ids(take(engine, 4)))) == {"a": 2, "b": 2}


def test_a_lane_whose_jobs_a_session_cannot_run_keeps_nobody_waiting(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 3, task="unknown")
    _fill(engine, "b", 3)

    assert ids(take(engine, 6)) == ["b000", "b001", "b002"]


def test_a_lane_waits_for_the_session_that_can_run_it_and_goes_first_there(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s", tasks=frozenset({"work"})))
    engine.join(session(id="t"))
    _fill(engine, "a", 3, task="other")
    _fill(engine, "b", 9)
    _run(harness, engine, 4)

    assert take_one(engine, by="t").job_id == "a000"
    assert Counter(_lanes_of(ids(take(engine, 3, by="t"))))["b"] >= 1


def test_the_same_lane_in_another_queue_is_another_lane(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 10)
    _fill(engine, "b", 1)
    _run(harness, engine, 8)
    engine.enqueue([job(id="a900", queue="side", lane="a"), job(id="b900", queue="side", lane="b")])

    assert ids(engine.claim("s", demand(2, queues=("side",)))) == ["a900", "b900"]


def test_the_first_queue_goes_first_whatever_its_lanes(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 3)
    _fill(engine, "b", 1)
    _run(harness, engine, 2)
    engine.enqueue([job(id="c", queue="side", lane="c")])

    assert ids(engine.claim("s", demand(3, queues=("main", "side")))) == ["a001", "a002", "c"]


def test_a_job_that_is_retried_stays_in_its_lane(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 1)
    settle(engine, Failed(take_one(engine).token, "error", retry_in_s=5))
    harness.advance(6)
    _fill(engine, "b", 3)

    assert look(engine, "a000").lane == "a"
    assert ids(take(engine, 3)) == ["a000", "b000", "b001"]


def test_repeating_a_claim_costs_a_lane_nothing_more(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 3)
    _fill(engine, "b", 3)
    wanted = demand(1)
    engine.claim("s", wanted)
    engine.claim("s", wanted)
    take(engine)

    assert ids(take(engine, 2)) == ["a001", "b001"]


def test_short_jobs_beyond_the_slots_share_as_well(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "a", 10)
    _fill(engine, "b", 10)
    wanted = demand(1, pace={"work": 0.25}, buffer_s=100.0, limit=8)

    assert Counter(_lanes_of(ids(engine.claim("s", wanted)))) == {"a": 4, "b": 4}


def _joined(harness: Harness) -> Engine:
    engine = harness.engine()
    engine.join(session(id="s"))
    return engine


def _fill(
    engine: Engine, lane: str, count: int, *, first: int = 0, priority: int = 5, task: str = "work"
) -> None:
    """Enqueue jobs of a lane that are named by it and numbered."""
    numbers = range(first, first + count)
    engine.enqueue([job(id=f"{lane}{n:03}", lane=lane, priority=priority, task=task) for n in numbers])


def _run(harness: Harness, engine: Engine, count: int, **ran_s: float) -> list[str]:
    """Run so many jobs, one after the other, for the seconds of their lane; return their ids."""
    names = []
    for _ in range(count):
        claim = take_one(engine)
        harness.advance(ran_s.get(claim.job_id[:-3], 0.0))
        settle(engine, Succeeded(claim.token))
        names.append(claim.job_id)
    return names


def _lanes_of(names: list[str]) -> list[str]:
    return [name[:-3] for name in names]
