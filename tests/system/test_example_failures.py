"""`examples/code_evaluation`: programs that go wrong, and where failures lead, in virtual time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from example_callers import BrokenServer, Webhook, client, ids, submit, world
from examples.code_evaluation import executor, places, programs, results, verdicts
from examples.code_evaluation.app import (
    FAULT_VARIABLE,
    WEBHOOK_VARIABLE,
    app,
    clean_up,
    evaluate,
    process_dlq,
)
from examples.code_evaluation.places import EXECUTORS_VARIABLE
from examples.code_evaluation.results import DATABASE_VARIABLE
from examples.code_evaluation.sandbox import Program, Sandbox, SandboxGone
from examples.code_evaluation.stage import wait_for

__all__ = ["client", "world"]


# --- programs -------------------------------------------------------------------------------------


def test_a_program_that_fails_is_a_result_and_no_failure(client, world):
    submit(client, code="print('before'); 1 / 0")
    submit(client, "bash", code="echo $((6 * 7)); exit 3", language="bash")
    world.run()

    python, bash = (client.get(f"/evaluations/{one}").json()["result"] for one in ("e1", "bash"))
    assert (python["passed"], python["exit_code"]) == (False, 1)
    assert "ZeroDivisionError" in python["output"]
    assert (bash["passed"], bash["exit_code"], bash["output"]) == (False, 3, "42\n")


def test_a_program_over_its_time_fails_after_one_attempt(client, world, monkeypatch):
    monkeypatch.setattr(verdicts, "TIMEOUT_S", 0.3)
    submit(client, code=programs.ENDLESS)

    world.advance("10m")

    found = client.get("/evaluations/e1").json()
    assert (found["state"], found["attempt"]) == ("failed", 1)
    assert found["error"] == "CodeTimeout: not done after 0.3 s"


def test_an_innocent_program_gets_more_memory_once_and_its_report(client, world):
    submit(client, code=programs.LARGE)

    world.run()

    found = client.get("/evaluations/e1").json()
    assert (found["state"], found["attempt"]) == ("succeeded", 2)
    assert "innocent" in found["result"]["report"]
    assert "peak memory" in found["attempts"][0]["error"]


def test_a_program_that_is_not_content_with_more_memory_fails_after_two_attempts(client, world):
    submit(client, code=programs.HOG)

    world.advance("10m")

    found = client.get("/evaluations/e1").json()
    assert (found["state"], found["attempt"]) == ("failed", 2)
    assert "suspicious (not content with more)" in found["error"]


def test_a_suspicious_program_gets_no_second_attempt(client, world):
    submit(client, code=programs.BOMB, language="bash")

    world.advance("10m")

    found = client.get("/evaluations/e1").json()
    assert (found["state"], found["attempt"]) == ("failed", 1)
    assert "processes where 8 are usual" in found["error"]


def test_a_program_cannot_write_a_large_file_or_leave_processes_behind(client, world):
    submit(client, "file", code="open('f', 'wb').write(b'x' * 10_000_000)")
    submit(
        client, "daemon", code="import os\nif os.fork() == 0:\n    os.setsid(); import time; time.sleep(60)"
    )
    world.run()

    assert "File too large" in client.get("/evaluations/file").json()["result"]["output"]
    assert client.get("/evaluations/daemon").json()["result"]["passed"]


def test_a_nursery_that_dies_takes_its_programs_along_and_none_of_the_next_one():
    sandbox = Sandbox()
    with ThreadPoolExecutor() as threads:
        lost = threads.submit(sandbox.run, Program("bash", "sleep 60"))
        wait_for(lambda: sandbox._nursery and sandbox._asked, what="the program")
        sandbox._nursery.kill()
        sandbox._nursery.wait()
        done = [threads.submit(sandbox.run, Program("bash", f"echo {number}")) for number in range(3)]

        with pytest.raises(SandboxGone):
            lost.result(30)
        assert [one.result(30).output for one in done] == ["0\n", "1\n", "2\n"]
    sandbox.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"language": "cobol"}, "there are python, bash"), ({"timeout_s": 0}, "above 0"), ({"code": 1}, "str")],
)
def test_an_executor_refuses_what_it_cannot_run(wrong, words):
    request = {"language": "python", "code": "pass"} | wrong

    status, said = executor.answer(executor.Executor(), json.dumps(request).encode())

    assert status == 422
    assert words in said["error"]


# --- executors ------------------------------------------------------------------------------------


def test_network_trouble_is_waited_for_60_120_and_240_seconds(client, world, monkeypatch):
    server = BrokenServer()
    monkeypatch.setenv(EXECUTORS_VARIABLE, server.url)
    submit(client)

    world.advance("8m")
    server.close()

    assert world.waits("e1") == [60, 120, 240]
    found = client.get("/evaluations/e1").json()
    assert found["state"] == "failed"
    assert found["error"].startswith("NetworkTrouble: ")


def test_after_an_executor_that_is_down_the_next_one_is_asked_at_once(client, world, monkeypatch):
    down, broken = "http://127.0.0.1:1", BrokenServer()
    known = [down, broken.url]
    eval_id = next(f"e{n}" for n in range(100) if places.chosen(known, f"e{n}", 1) == down)
    monkeypatch.setenv(EXECUTORS_VARIABLE, ",".join(known))
    submit(client, eval_id)

    world.advance("1s")
    broken.close()

    assert world.waits(eval_id) == [0.2]
    errors = [one["error"] for one in client.get(f"/evaluations/{eval_id}").json()["attempts"]]
    assert down in errors[0]
    assert broken.url in errors[1]


def test_where_all_executors_are_down_the_waits_grow(client, world, monkeypatch):
    monkeypatch.setenv(EXECUTORS_VARIABLE, "http://127.0.0.1:1,http://127.0.0.1:2")
    submit(client)

    world.advance("8m")

    assert world.waits("e1") == [0.2, 120, 0.2]


# --- the rest -------------------------------------------------------------------------------------


def test_a_failure_is_written_down_by_a_job_of_its_own(client, world, monkeypatch, caplog):
    monkeypatch.setattr(verdicts, "TIMEOUT_S", 0.2)
    submit(client, code=programs.ENDLESS)

    world.run()

    [line] = [record for record in caplog.records if record.message == "an evaluation failed"]
    assert (line.failed, line.error) == ("e1", "CodeTimeout")
    assert world.ran[-1].task == "examples.code_evaluation.app.note_failure"


def test_dead_letters_are_grouped_and_what_the_network_broke_off_is_run_again_once(
    client, world, monkeypatch
):
    server = BrokenServer()
    monkeypatch.setenv(EXECUTORS_VARIABLE, server.url)
    for number in range(3):
        submit(client, f"e{number}")
    world.advance("8m")
    server.close()
    failed = ids(client.get("/evaluations?state=failed"))
    monkeypatch.delenv(EXECUTORS_VARIABLE)

    world.advance("20m")

    assert len(failed) == 3
    assert len(ids(client.get("/evaluations?state=succeeded"))) == 3
    first = next(job for job in app.jobs(task=process_dlq.name) if len(job.result["groups"]) == 1)
    assert first.result["groups"][0]["count"] == 3


def test_the_webhook_is_told_once_of_a_group_of_failures_of_ours(client, world, monkeypatch, tmp_path):
    fault = tmp_path / "fault"
    fault.touch()
    told = Webhook()
    monkeypatch.setenv(FAULT_VARIABLE, str(fault))
    monkeypatch.setenv(WEBHOOK_VARIABLE, told.url)
    for number in range(3):
        submit(client, f"e{number}")

    world.advance("30m")
    told.close()

    [alert] = told.bodies
    assert (alert["error"], alert["count"]) == ("builtins.RuntimeError", 3)
    assert alert["jobs"] == ["e0", "e1", "e2"]


def test_a_database_that_is_down_opens_the_breaker_and_nothing_fails(client, world, monkeypatch, tmp_path):
    monkeypatch.setenv(DATABASE_VARIABLE, str(tmp_path / "results.db"))
    for number in range(20):
        submit(client, f"e{number}")
    world.advance("2m")
    opened = app.breaker("database").phase
    waiting = [one["state"] for one in client.get("/evaluations").json()["evaluations"]]
    results.create()

    world.advance("10m")

    assert opened != "closed"
    assert set(waiting) <= {"ready", "scheduled"}
    assert len(ids(client.get("/evaluations?state=succeeded"))) == 20
    assert set(results.stored().values()) == {1}
    assert app.breaker("database").phase == "closed"


def test_old_folders_of_killed_programs_are_removed(world, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("examples.code_evaluation.app._LEFT_OVER_S", -60)
    (tmp_path / "evaluation-old").mkdir()
    (tmp_path / "other").mkdir()

    assert clean_up.delay().get() == 1
    assert [one.name for one in tmp_path.iterdir()] == ["other"]


def test_a_folder_that_goes_while_others_are_looked_for_is_no_failure(world, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("pathlib.Path.glob", lambda *_: iter([tmp_path / "evaluation-gone"]))

    assert clean_up.delay().get() == 0


def test_the_evaluation_task_can_be_listed_by_its_name():
    assert evaluate.name == "examples.code_evaluation.app.evaluate"
