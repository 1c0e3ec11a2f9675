"""`examples/evaluation_pipeline`: a broken sample, a killed worker, a revival."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from backends import NAMES, empty_place, server
from example_runs import run_example
from examples.evaluation_pipeline.app import BROKEN, app, evaluation, journal, release, reserve, samples_file

from cicely import UsageError, chain
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
    assert run["aggregate"].state == run["notify"].state == "cancelled"
    assert kept_by_runs(world, run) == {}


def test_the_machine_is_the_runs_from_its_first_job_on(world):
    run = evaluation("run", size=8).delay()

    for step in (run["reserve"], run["fetch"], run["samples"].children[0]):
        assert run["release"].state == "waiting"
        while step.state != "succeeded":
            with suppress(UsageError):
                world.run(limit=1)
        assert kept_by_runs(world, run) == {run.id: {"machine": {"0": 1.0}}}


def test_a_run_waits_for_a_machine_without_a_slot(world):
    others(world, "one", "two")
    run = evaluation("run", size=8).delay()
    world.run()
    waiting, why = run["reserve"].state, run["reserve"].explain()

    world.advance("1m")

    assert waiting == "ready"
    assert why.text.startswith("resource machine: 0 of 2 free, and it wants 1; reserved by workflow ")
    assert run["reserve"].get() == "0"
    assert kept_by_runs(world, run) == {}


def test_a_revived_sample_takes_a_machine_again_and_waits_for_one(world):
    run = evaluation("run", size=10).delay()
    world.run()
    others(world, "one", "two")
    samples = json.loads(samples_file("run").read_text())
    samples[BROKEN] = {"question": "1 + 1 + 1", "answer": "3"}
    samples_file("run").write_text(json.dumps(samples))

    run.revive()
    world.run()
    waiting = run["samples"].children[BROKEN].state
    world.advance("1m")

    assert waiting == "ready"
    assert run["notify"].get()["samples"] == 10
    assert kept_by_runs(world, run) == {}


def test_nothing_is_released_that_was_never_had(world):
    run = evaluation("run", size=8).delay()
    run["reserve"].cancel()
    world.run()

    assert run["release"].state == "succeeded"
    assert journal("run").counts("start") == {"release": 1}


def others(world, *names):
    """Have other runs keep a machine each for half a minute."""
    for name in names:
        chain(reserve.si(name), release.si(name).set(countdown=30)).delay()
    world.run()


def kept_by_runs(world, run):
    """Return what is kept of machines now, by run."""
    around = world.engine.surroundings(run["release"].id)
    return {one.workflow: one.units for one in around.reserved}


@pytest.mark.parametrize("name", ["embedding_index", "evaluation_pipeline"])
def test_a_folder_with_something_in_it_is_refused(tmp_path, name):
    (tmp_path / "mine").touch()

    ran = run_example(name, f"--keep={tmp_path}")

    assert ran.code == 2
    assert ran.said == f"--keep {tmp_path}: the folder is not empty; name a new one\n"
