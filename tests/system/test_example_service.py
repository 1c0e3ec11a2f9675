"""`examples/code_evaluation` with real processes: its commands, as its README has them, in a small size."""

from __future__ import annotations

import json
import re

import pytest
from backends import NAMES, empty_place, server
from bounds import LENIENCY
from example_runs import ROOT, run_example
from examples.code_evaluation import results, tour
from examples.code_evaluation.__main__ import main
from examples.code_evaluation.app import BACKOFF_VARIABLE, COOLDOWN_VARIABLE, FAULT_VARIABLE, app
from examples.code_evaluation.client import Client
from examples.code_evaluation.crew import Service
from examples.code_evaluation.results import DATABASE_VARIABLE
from examples.code_evaluation.stage import Promises, be_lenient, lenient, stage, wait_for

README = ROOT / "examples" / "code_evaluation" / "README.md"
NOTE_FAILURE = "examples.code_evaluation.app.note_failure"
LENIENT = f"--lenient={LENIENCY}"


def promised_of(exercise: str) -> set[str]:
    """Return the first words of the lines that the README shows for an exercise."""
    shown = README.read_text().partition(f"exercises.{exercise}\n")[2].partition("```")[0]
    return {without_figures(re.split(r"  +", line)[0]) for line in shown.splitlines() if line[:1].strip()}


def without_figures(line: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "N", line)


def processes() -> set[str]:
    """Return the sessions of the workers' processes."""
    return {record.session.id for record in app.engine.sessions()}


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setenv("EVALUATION_TIMEOUT_S", "2")
    for variable in ("CICELY_URL", "EVALUATION_BACKOFF", "EVALUATION_FAULT", "EVALUATION_EXECUTORS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    "words", ["migrate --rate=0", "kills --seconds=nan", "serve --port=-1", "tour --problems=0"]
)
def test_a_number_that_makes_no_sense_is_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words.split())

    assert ended.value.code == 2
    assert words.split("=")[1] in capsys.readouterr().err


def test_a_place_where_no_jobs_can_be_kept_is_named_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="Not a directory; name another folder"):
        main(["tour", f"--keep={tmp_path}/file/folder"])
    monkeypatch.setenv("CICELY_URL", "banana://x")
    with pytest.raises(SystemExit, match=r"^exercises.traffic: the URL 'banana://x' names no engine"):
        main(["exercises.traffic"])


def test_a_busy_machine_is_waited_for_as_much_longer_as_the_command_line_says():
    be_lenient(3)
    try:
        with pytest.raises(TimeoutError, match=r"an end: not within 0.03 s"):
            wait_for(lambda: False, what="an end", within_s=0.01)
        assert lenient(30) == 90
    finally:
        be_lenient(1)


def test_a_program_that_fails_where_it_should_not_is_a_line_of_the_table(capsys):
    failed = {"state": "failed", "attempt": 1, "error": "CodeTimeout: not done after 2 s", "result": None}
    promises = Promises()

    tour._wild_promises(promises, dict.fromkeys(("endless", "hog", "large", "bomb"), failed))

    assert promises.report() == 1
    assert "failed, failed, failed, failed   NOT AS PROMISED" in capsys.readouterr().out


def test_humaneval_goes_through_while_premium_passes_by_and_an_executor_is_away():
    ran = run_example("code_evaluation", "tour", "--problems=10", LENIENT)

    assert ran.code == 0, ran.said
    assert ran.table["right solutions that passed"] == "10/10"
    assert ran.table["wrong ones that passed"] == "0"
    assert ran.table["their attempts"] == "1, 2, 2, 1"


@pytest.mark.parametrize("exercise", ["executor", "slowest", "workers", "order"])
def test_an_exercise_ends_as_it_should(exercise):
    ran = run_example("code_evaluation", f"exercises.{exercise}", LENIENT)

    assert ran.code == 0, ran.said
    assert {without_figures(line) for line in ran.table} >= promised_of(exercise)


@pytest.mark.parametrize("engine", NAMES)
def test_the_same_holds_on_a_server(engine):
    ran = run_example("code_evaluation", "exercises.order", url=empty_place(engine, server(engine)))

    assert ran.code == 0, ran.said


def test_a_database_that_is_down_fails_nothing_and_the_queue_is_drained_when_it_is_back(
    tmp_path, monkeypatch
):
    database = tmp_path / "results.db"
    monkeypatch.setenv(DATABASE_VARIABLE, str(database))
    monkeypatch.setenv(BACKOFF_VARIABLE, "1s")
    monkeypatch.setenv(COOLDOWN_VARIABLE, "1s")
    with stage(str(tmp_path / "kept")) as folder, Service(folder, executors=0) as service:
        client = Client(service.url)
        client.submit_all((f"e{number}", "pass") for number in range(20))
        wait_for(lambda: app.breaker("database").phase != "closed", what="the breaker to open", within_s=30)
        client.submit_all((f"later-{number}", "pass") for number in range(20))
        failed = client.ask("GET", "/evaluations?state=failed")
        succeeded = client.ask("GET", "/evaluations?state=succeeded")
        results.create()
        ends = {
            client.await_end(f"{name}{number}")["state"] for name in ("e", "later-") for number in range(20)
        }

    assert json.loads(failed)["evaluations"] == json.loads(succeeded)["evaluations"] == []
    assert ends == {"succeeded"}
    assert sorted(results.stored().values()) == [1] * 40


def test_what_failed_is_written_down_by_a_job_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "fault").touch()
    monkeypatch.setenv(FAULT_VARIABLE, str(tmp_path / "fault"))
    with stage(str(tmp_path / "kept")) as folder, Service(folder, executors=0) as service:
        client = Client(service.url)
        client.submit("broken", "pass")
        ended = client.await_end("broken")
        [job] = wait_for(lambda: list(app.jobs(task=NOTE_FAILURE)), what="the job of the hook", within_s=30)
        job.get(30)
        lines = [
            json.loads(line) for line in (folder / "worker-0.log").read_text().splitlines() if line[0] == "{"
        ]

    assert ended["error"] == "RuntimeError: a fault was injected"
    [line] = [line for line in lines if line["message"] == "an evaluation failed"]
    assert (line["failed"], line["error"], line["task_id"]) == ("broken", "RuntimeError", job.id)


def test_progress_is_told_while_an_evaluation_runs_and_a_cancellation_ends_it(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALUATION_TIMEOUT_S", "60")
    with stage(str(tmp_path / "kept")) as folder, Service(folder, executors=1) as service:
        client = Client(service.url)
        client.submit("quick", "import time; time.sleep(0.5)")
        told = client.ask("GET", "/evaluations/quick/events")
        client.submit("endless", "import time; time.sleep(60)")
        wait_for(lambda: client.look("endless")["state"] == "running", what="the start", within_s=30)
        before = processes()
        client.ask("POST", "/evaluations/endless/cancel")
        ended = client.await_end("endless")
        # Cancelled within the process, which goes on with what else it runs.
        after = processes()

    kinds = [line.removeprefix("event: ") for line in told.splitlines() if line.startswith("event: ")]
    assert kinds[-1] == "succeeded"
    assert "running" in kinds
    assert "attempt 1 by http://127.0.0.1" in told
    assert ended["state"] == "cancelled"
    assert after == before
