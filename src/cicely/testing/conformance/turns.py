"""Very short jobs that are claimed ahead come in turns: several of one lane, then several of the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cicely.core.job import NewJob
from cicely.core.lanes import LaneWeight
from cicely.core.limits import Limit
from cicely.core.outcome import HandedBack
from cicely.engines.contract import Demand, Engine
from cicely.testing.conformance.bench import demand, ids, job, session, settle, take, using
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

SHORT_S = 0.0001


def test_a_turn_is_of_eight_very_short_jobs(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "ab", 20)

    assert _turns(_ahead(engine, 40)) == [("a", 8), ("b", 8), ("a", 8), ("b", 8), ("a", 4), ("b", 4)]


def test_a_turn_takes_two_milliseconds_at_most(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "ab", 10)

    assert _turns(_ahead(engine, 10, pace_s=0.0005)) == [("a", 4), ("b", 4), ("a", 2)]


def test_longer_jobs_have_a_turn_each(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "ab", 3)

    assert _turns(_ahead(engine, 6, pace_s=0.0015)) == [("a", 1), ("b", 1)] * 3


def test_jobs_that_are_not_claimed_ahead_have_a_turn_each(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "ab", 20)

    assert _turns(ids(take(engine, 40))) == [("a", 1), ("b", 1)] * 20


def test_a_turn_that_an_ask_cuts_short_costs_a_lane_what_it_got(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "ab", 20)
    _ahead(engine, 3)

    assert Counter(_lanes_of(ids(take(engine, 9)))) == {"a": 3, "b": 6}


def test_a_turn_costs_a_lane_each_of_its_jobs(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "abc", 20)
    _ahead(engine, 8)

    assert Counter(_lanes_of(ids(take(engine, 16)))) == {"b": 8, "c": 8}
    assert Counter(_lanes_of(ids(take(engine, 3)))) == {"a": 1, "b": 1, "c": 1}


def test_lanes_that_wait_for_a_turn_lose_nothing_by_it(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "abcdef", 40)

    assert Counter(_lanes_of(_ahead(engine, 96))) == dict.fromkeys("abcdef", 16)
    assert Counter(_lanes_of(ids(take(engine, 12)))) == dict.fromkeys("abcdef", 2)


def test_a_weight_counts_over_turns(harness: Harness) -> None:
    engine = _joined(harness)
    engine.configure([LaneWeight("main", "a", 3.0)])
    _fill(engine, "ab", 100)

    shares = Counter(_lanes_of(_ahead(engine, 96)))

    assert 68 <= shares["a"] <= 76


def test_a_lane_that_comes_late_waits_for_no_second_turn(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "ab", 40)
    _ahead(engine, 32)
    _fill(engine, "z", 1)

    assert "z000" in ids(take(engine, 3))


def test_a_turn_ends_where_the_priority_changes(harness: Harness) -> None:
    engine = _joined(harness)
    engine.enqueue([job(id=f"a{n:03}", lane="a", priority=9) for n in range(3)])
    _fill(engine, "ab", 4, first=3)

    assert _turns(_ahead(engine, 11)) == [("a", 3), ("b", 4), ("a", 4)]


def test_a_turn_ends_where_a_limit_is_reached(harness: Harness) -> None:
    engine = _joined(harness)
    engine.configure([Limit(key="k", concurrency=3)])
    engine.enqueue([job(id=f"a{n:03}", lane="a", flow=using("k")) for n in range(8)])
    _fill(engine, "b", 10)

    assert _turns(_ahead(engine, 20)) == [("a", 3), ("b", 10)]


def test_a_turn_passes_over_what_has_expired(harness: Harness) -> None:
    engine = _joined(harness)
    engine.enqueue([job(id=f"a{n:03}", lane="a", expires_s=5) for n in range(3)])
    _fill(engine, "a", 20, first=3)
    _fill(engine, "b", 20)
    harness.advance(6)

    assert _turns(_ahead(engine, 16)) == [("a", 8), ("b", 8)]


def test_jobs_without_a_lane_have_turns_as_well(harness: Harness) -> None:
    engine = _joined(harness)
    engine.enqueue([job(id=f"-{n:03}") for n in range(10)])
    _fill(engine, "a", 10)

    assert _turns(_ahead(engine, 20)) == [("-", 8), ("a", 8), ("-", 2), ("a", 2)]


def test_without_lanes_the_order_is_that_of_the_queue(harness: Harness) -> None:
    engine = _joined(harness)
    engine.configure([Limit(key="k", concurrency=100)])
    tasks = ["work", "other"] * 10
    engine.enqueue([job(id=f"a{n:03}", task=task, flow=using("k")) for n, task in enumerate(tasks)])

    assert _ahead(engine, 20) == [f"a{n:03}" for n in range(20)]


def test_a_turn_that_comes_back_unstarted_costs_nothing(harness: Harness) -> None:
    engine = _joined(harness)
    _fill(engine, "ab", 10)
    for claim in engine.claim("s", _wanted(8)).claims:
        settle(engine, HandedBack(claim.token))

    assert _turns(_ahead(engine, 16)) == [("a", 8), ("b", 8)]


def _joined(harness: Harness) -> Engine:
    engine = harness.engine()
    engine.join(session(id="s"))
    return engine


def _fill(engine: Engine, lanes: str, count: int, *, first: int = 0) -> None:
    """Enqueue jobs of lanes in turns, each named by its lane and numbered."""
    numbers = range(first, first + count)
    engine.enqueue([_job(lane, n) for n in numbers for lane in lanes])


def _job(lane: str, n: int) -> NewJob:
    return job(id=f"{lane}{n:03}", lane=lane)


def _wanted(count: int, *, pace_s: float = SHORT_S) -> Demand:
    return demand(1, pace={"work": pace_s, "other": pace_s}, buffer_s=100.0, limit=count)


def _ahead(engine: Engine, count: int, *, pace_s: float = SHORT_S) -> list[str]:
    """Claim so many jobs of a task that is short, all but the first one ahead."""
    return ids(engine.claim("s", _wanted(count, pace_s=pace_s)).claims)


def _lanes_of(names: Sequence[str]) -> list[str]:
    return [name[:-3] for name in names]


def _turns(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return the lanes in their order, each with how many of its jobs came in a row."""
    turns: list[tuple[str, int]] = []
    for lane in _lanes_of(names):
        if turns and turns[-1][0] == lane:
            turns[-1] = (lane, turns[-1][1] + 1)
        else:
            turns.append((lane, 1))
    return turns
