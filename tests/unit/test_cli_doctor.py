"""`cicely doctor`: what holds, where it was set, and what is wrong."""

from __future__ import annotations

import json
import time

import pytest
from cli_shop import Shop

from cicely.cli.examination import Measured, _clock_and_speed
from cicely.engines.contract import Session


@pytest.fixture
def shop(tmp_path, monkeypatch):
    for name in ("CICELY_URL", "CICELY_APP", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return Shop(tmp_path)


def examined(shop):
    result = shop.run("doctor", "--json")
    report = json.loads(result.stdout)
    facts = {fact["name"]: (fact["value"], fact["source"]) for fact in report["facts"]}
    return result.exit_code, facts, report


def test_a_sound_system_is_exit_code_0(shop):
    shop.join()

    result = shop.run("doctor", columns=80)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "All is well."
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


def test_settings_are_shown_with_their_sources(shop, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")

    _, facts, _ = examined(shop)

    assert facts["url"][1] == "url= in Cicely(...)"
    assert facts["durability"][1] == "the engine"
    assert facts["tasks"][0] == "2"
    assert facts["OMP_NUM_THREADS"] == ("4", "the environment")
    assert facts["OPENBLAS_NUM_THREADS"][0] == "1"
    assert "median of 5" in facts["a change takes"][1]


def test_it_says_how_memory_limits_are_kept(shop, monkeypatch):
    monkeypatch.setenv("CICELY_CGROUP", "/nowhere/at/all")

    _, facts, _ = examined(shop)

    how, source = facts["memory limits"]
    assert how.startswith("no worker starts: CICELY_CGROUP=/nowhere/at/all cannot hold groups")
    assert source == "CICELY_CGROUP"


def test_measuring_leaves_no_session_behind(shop):
    examined(shop)

    assert shop.engine.sessions() == []


def test_ready_jobs_that_nobody_takes_are_a_problem_with_a_remedy(shop):
    shop.pack.delay(1)

    code, _, report = examined(shop)

    assert code == 1
    [problem] = report["problems"]
    assert "shop.pack wait in default, and nobody that is up takes them" in problem["what"]
    assert problem["remedy"].startswith("start a worker")


def test_a_job_that_no_worker_could_ever_hold_is_a_problem(shop):
    shop.join()
    for number in range(2):
        shop.pack.options(resources={"gpu": 9}).delay(number)
    shop.pack.delay(3)

    code, _, report = examined(shop)

    assert code == 1
    [problem] = report["problems"]
    assert "it wants gpu 9, more than any worker that runs it has: none has any" in problem["what"]
    assert "--resource" in problem["remedy"]


def test_jobs_of_a_paused_queue_are_a_note_and_no_problem(shop):
    shop.pack.delay(1)
    shop.run("pause", "default")

    code, _, report = examined(shop)

    assert code == 0
    assert any("cicely resume default" in note["remedy"] for note in report["notes"])


def test_a_limit_that_a_task_names_and_that_looks_misspelt_is_a_note(shop):
    shop.module.app.limit("anthropic/opus", concurrency=20)
    shop.module.app.task(name="shop.ask", limits=["anthropic/opus", "openai/o9"])(len)
    shop.module.app.task(name="shop.say", limits="antropic/opus")(len)

    code, _, report = examined(shop)

    [note] = [note for note in report["notes"] if "limit" in note["what"]]
    assert (code, note["what"]) == (0, "shop.say names the limit antropic/opus, which bounds nothing")
    assert note["remedy"] == "did you mean anthropic/opus? Else declare it: app.limit('antropic/opus', ...)"


def test_what_keeps_a_worker_from_starting_is_a_problem(shop):
    shop.module.app.cap(queue="unheard-of", running=3)

    code, _, report = examined(shop)

    assert code == 1
    assert [p["what"].split(": ")[0] for p in report["problems"]] == ["no worker of the app starts"]
    assert "no queue is called unheard-of" in report["problems"][0]["what"]


def test_a_silent_session_is_a_problem(shop):
    shop.engine._now = lambda: time.time() - 100
    shop.join(Session(id="child-1", worker="w", name="box:1/1"))
    shop.engine._now = time.time

    code, facts, report = examined(shop)

    assert code == 1
    assert facts["sessions"][0] == "1 session silent"
    assert "box:1/1 has been silent" in report["problems"][0]["what"]


def test_an_unknown_variable_is_told_the_nearest(shop, monkeypatch):
    monkeypatch.setenv("CICELY_ULR", "x")

    _, _, report = examined(shop)

    assert report["problems"][0] == {
        "what": "the environment variable CICELY_ULR is unknown",
        "remedy": "did you mean CICELY_URL?",
    }


def test_a_slow_disk_and_a_clock_that_is_off_are_problems():
    assert list(_clock_and_speed(Measured(0.001, 0.001, 0.1))) == []
    assert len(list(_clock_and_speed(Measured(0.2, 0.001, -5.0)))) == 2
