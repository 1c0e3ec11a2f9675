"""`examples/evaluation_pipeline`: a broken sample, a killed worker, a revival."""

from __future__ import annotations

import json

import pytest
from backends import NAMES, empty_place, server
from example_runs import run_example
from examples.evaluation_pipeline.app import BROKEN, app, evaluation, journal, pool, samples_file
from examples.evaluation_pipeline.pool import MACHINES

from cicely.testing import inline


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("EXAMPLE_FOLDER", str(tmp_path))
    with inline(app) as world:
        yield world


@pytest.mark.parametrize("engine", ["sqlite", *NAMES])
def test_what_was_done_before_a_kill_or_a_failure_is_not_done_again(engine):
    url = "" if engine == "sqlite" else empty_place(engine, server(engine))

    ran = run_example("evaluation_pipeline", "--samples=120", url=url)

    assert ran.code == 0, ran.said
    assert ran.table["done before the kill, run again"] == ran.table["run twice at once"] == "0"
    assert ran.table["samples that succeeded"] == "119"
    assert ran.table["run by the revival"] == f"aggregate, notify, release, sample-{BROKEN}"
    assert ran.table["the run"] == "125 of 125: 125 succeeded"


def test_the_machine_is_given_back_when_all_samples_have_ended_and_one_failed(world):
    run = evaluation("run", size=20).delay()
    world.run()

    lines = journal("run").lines()
    assert lines[-2:] == [("start", "release"), ("end", "release")]
    assert journal("run").counts("end").total() == 19 + len(["reserve", "fetch", "release"])
    assert pool().holders() == {}
    assert run["aggregate"].state == run["notify"].state == "cancelled"


def test_a_run_waits_for_a_machine_without_a_slot(world):
    for machine in MACHINES:
        pool().hold(f"other-{machine}")
    run = evaluation("run", size=8).delay()
    world.run()
    waiting = run["reserve"].state

    pool().free(f"other-{MACHINES[1]}")
    world.advance("1m")

    assert waiting == "scheduled"
    assert run["reserve"].get() == MACHINES[1]
    assert pool().holders() == {MACHINES[0]: f"other-{MACHINES[0]}"}


def test_a_revived_sample_takes_a_machine_again_and_waits_for_one(world):
    run = evaluation("run", size=10).delay()
    world.run()
    for machine in MACHINES:
        pool().hold(f"other-{machine}")
    samples = json.loads(samples_file("run").read_text())
    samples[BROKEN] = {"question": "1 + 1 + 1", "answer": "3"}
    samples_file("run").write_text(json.dumps(samples))

    run.revive()
    world.run()
    waiting = run["samples"].children[BROKEN].state
    pool().free(f"other-{MACHINES[0]}")
    world.advance("1m")

    assert waiting == "scheduled"
    assert run["notify"].get()["samples"] == 10
    assert pool().holders() == {MACHINES[1]: f"other-{MACHINES[1]}"}


def test_nothing_is_released_that_was_never_had(world):
    run = evaluation("run", size=8).delay()
    run["reserve"].cancel()
    world.run()

    assert run["release"].get() == []
    assert journal("run").counts("start") == {"release": 1}


@pytest.mark.parametrize("name", ["embedding_index", "evaluation_pipeline"])
def test_a_folder_with_something_in_it_is_refused(tmp_path, name):
    (tmp_path / "mine").touch()

    ran = run_example(name, f"--keep={tmp_path}")

    assert ran.code == 2
    assert ran.said == f"--keep {tmp_path}: the folder is not empty; name a new one\n"
