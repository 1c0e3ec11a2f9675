"""Valves and lanes of which nothing is left go; who comes to one again finds it as new."""

import pytest
from sqlite_bench import engine, rows

from cicely.core.lanes import LaneWeight
from cicely.core.limits import Limit
from cicely.core.outcome import Deferred, Succeeded
from cicely.engines.sqlite import forgetting
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.testing.conformance.bench import ids, job, take, take_one, using

__all__ = ["engine"]


def _run(engine: SqliteEngine, *names: str) -> None:
    """Carry out a job for each name, with a lane and a key of that name."""
    for name in names:
        engine.enqueue([job(id=f"job of {name}", lane=name, flow=using(name))])
        engine.settle("s", [Succeeded(take_one(engine).token)])
        engine.steer("discard", [f"job of {name}"])


def _valves(engine: SqliteEngine) -> list[str]:
    return [key for (key,) in rows(engine, "SELECT key FROM valve ORDER BY key")]


def _lanes(engine: SqliteEngine) -> list[str]:
    return [name for (name,) in rows(engine, "SELECT name FROM lane ORDER BY id")]


def test_a_key_that_nobody_set_is_forgotten_when_its_jobs_have_run(engine):
    engine.configure([Limit(key="set", concurrency=1)])
    _run(engine, "a", "b", "set")

    engine.sweep(100)

    assert _valves(engine) == ["set"]


def test_a_key_is_kept_as_long_as_a_job_is_ready_or_holds_it(engine):
    engine.enqueue([job(id=name, flow=using(name)) for name in ("held", "ready")])
    assert ids(take(engine)) == ["held"]

    engine.sweep(100)

    assert _valves(engine) == ["held", "ready"]


def test_a_key_is_kept_as_long_as_somebody_was_refused_on_it(engine, clock):
    engine.enqueue([job(id="a", flow=using("api"))])
    engine.settle("s", [Deferred(take_one(engine).token, 60.0, slows=("api",))])

    engine.sweep(100)
    engine.enqueue([job(id="b", flow=using("api"))])

    assert take(engine) == ()


def test_a_key_whose_number_another_was_given_is_no_other(engine):
    _run(engine, "a")
    engine.sweep(100)
    engine.configure([Limit(key="b", concurrency=1)])

    engine.enqueue([job(id=f"{key}{n}", flow=using(key)) for key in "ab" for n in range(2)])

    assert ids(take(engine, 4)) == ["a0", "a1", "b0"]


def test_sweeps_come_to_all_keys_in_bounded_steps(engine):
    engine.configure([Limit(key=f"set{n}", concurrency=1) for n in range(5)])
    _run(engine, *(f"k{n}" for n in range(10)))

    left = []
    for _ in range(5):
        engine.sweep(3)
        left.append(len(_valves(engine)))

    assert left == [15, 14, 11, 8, 5]


def test_a_queue_with_very_many_lanes_forgets_those_of_which_no_job_is_ready(engine, monkeypatch):
    monkeypatch.setattr(forgetting, "_MOST_LANES", 5)
    _run(engine, *(f"lane{n}" for n in range(20)))
    engine.enqueue([job(id="ready", lane="lane0")])

    engine.sweep(100)

    lanes = _lanes(engine)
    assert len(lanes) < 5
    assert "lane0" in lanes
    assert rows(engine, "SELECT lanes FROM queue") == [(len(lanes),)]


def test_a_queue_with_few_lanes_remembers_all_of_them(engine):
    _run(engine, "a", "b", "c")

    engine.sweep(100)

    assert _lanes(engine) == ["a", "b", "c"]


def test_a_forgotten_lane_keeps_its_weight(engine, monkeypatch):
    monkeypatch.setattr(forgetting, "_MOST_LANES", 2)
    engine.configure([LaneWeight("main", "heavy", 3.0)])
    _run(engine, "heavy", "a", "b", "c")
    engine.sweep(100)
    assert "heavy" not in _lanes(engine)

    engine.enqueue([job(id="again", lane="heavy")])

    assert rows(engine, "SELECT weight FROM lane WHERE name = 'heavy'") == [(3.0,)]


@pytest.mark.parametrize("batch", [1, 100])
def test_a_running_job_of_a_forgotten_lane_ends_as_ever(engine, monkeypatch, batch):
    monkeypatch.setattr(forgetting, "_MOST_LANES", 1)
    _run(engine, "a", "b")
    engine.enqueue([job(id="runs", lane="a", flow=using("k"))])
    claim = take_one(engine)
    engine.enqueue([job(id="next", lane="c")])
    take_one(engine)

    for _ in range(4):
        engine.sweep(batch)

    assert engine.settle("s", [Succeeded(claim.token)]).verdicts == ("accepted",)
    assert rows(engine, "PRAGMA integrity_check") == [("ok",)]
