"""`examples/code_evaluation`: what its gateway accepts and tells, where failures lead, in virtual time."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from examples.code_evaluation import places, programs, results, sandbox, verdicts
from examples.code_evaluation.app import (
    FAULT_VARIABLE,
    WEBHOOK_VARIABLE,
    app,
    clean_up,
    evaluate,
    process_dlq,
)
from examples.code_evaluation.gateway import gateway
from examples.code_evaluation.places import EXECUTORS_VARIABLE
from examples.code_evaluation.results import DATABASE_VARIABLE
from starlette.testclient import TestClient

from cicely.testing import inline


@pytest.fixture
def world(monkeypatch):
    monkeypatch.delenv(EXECUTORS_VARIABLE, raising=False)
    with inline(app) as world:
        yield world
    sandbox.of_this_process().close()


@pytest.fixture
def client(world):
    return TestClient(gateway)


def submit(client, eval_id="e1", code="print('done')", **more):
    return client.post("/evaluations", json={"eval_id": eval_id, "code": code, **more})


def ids(answer):
    return [one["eval_id"] for one in answer.json()["evaluations"]]


class BrokenServer:
    """Takes each connection, and breaks it off where an answer is expected."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._break, daemon=True).start()

    def _break(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.recv(100)
            connection.close()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Webhook:
    """Keeps what it is told."""

    def __init__(self) -> None:
        bodies = self.bodies = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_given):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


# --- the gateway ----------------------------------------------------------------------------------


def test_an_evaluation_is_accepted_once_however_often_it_is_submitted(client, world):
    answers = [submit(client) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 200, 200]
    assert world.run() == 1
    found = client.get("/evaluations/e1").json()
    assert (found["state"], found["result"]["output"], found["attempt"]) == ("succeeded", "done\n", 1)


def test_another_program_under_a_known_id_is_refused(client):
    submit(client)

    answer = submit(client, code="print('something else')")

    assert answer.status_code == 409
    assert "another program" in answer.json()["detail"]


def test_an_unknown_language_is_a_clear_422(client):
    answer = submit(client, language="cobol")

    assert answer.status_code == 422
    [error] = answer.json()["detail"]
    assert error["loc"] == ["body", "language"]
    assert error["msg"] == "the language cobol is not known here; there are python, bash"


@pytest.mark.parametrize("eval_id", ["", "a b", "-x", "x" * 101])
def test_an_id_that_would_not_fit_into_a_path_is_refused(client, eval_id):
    assert submit(client, eval_id=eval_id).status_code == 422


def test_premium_single_and_bulk_go_to_queues_of_their_own(client, world):
    submit(client, "single")
    submit(client, "premium", tier="premium")
    client.post("/batches", content='{"eval_id": "bulk", "code": "pass"}')

    found = {one["eval_id"]: one["queue"] for one in client.get("/evaluations").json()["evaluations"]}
    assert found == {"single": "evaluation", "premium": "high_priority", "bulk": "batch"}
    world.run()
    assert [ran.job_id for ran in world.ran] == ["premium", "single", "bulk"]


def test_a_batch_with_a_wrong_line_is_refused_whole(client):
    lines = ['{"eval_id": "a", "code": "pass"}', '{"eval_id": "b"}', "no json"]

    answer = client.post("/batches", content="\n".join(lines))

    assert answer.status_code == 422
    assert [wrong["line"] for wrong in answer.json()["detail"]] == [2, 3]
    assert client.get("/evaluations").json()["evaluations"] == []


def test_evaluations_are_listed_by_state_and_in_pages(client, world):
    for number in range(3):
        submit(client, f"done-{number}")
        world.run()
        world.advance(1)
    submit(client, "new")

    assert ids(client.get("/evaluations?state=ready")) == ["new"]
    first = client.get("/evaluations?state=succeeded&limit=2")
    rest = client.get(f"/evaluations?state=succeeded&cursor={first.json()['cursor']}")
    assert ids(first) + ids(rest) == ["done-2", "done-1", "done-0"]
    assert rest.json()["cursor"] is None
    assert client.get("/evaluations?state=lost").status_code == 422
    assert client.get("/evaluations?cursor=mine").status_code == 422


def test_an_evaluation_that_has_not_ended_can_be_cancelled(client, world):
    submit(client)

    assert client.post("/evaluations/e1/cancel").json()["state"] == "cancelled"
    assert client.post("/evaluations/e1/cancel").status_code == 409
    assert world.run() == 0


def test_an_unknown_id_is_a_404(client):
    assert client.get("/evaluations/nobody").status_code == 404
    assert client.get("/evaluations/nobody/events").status_code == 404


def test_events_end_with_the_evaluation(client, world):
    submit(client)
    world.run()

    answer = client.get("/evaluations/e1/events")

    assert answer.headers["content-type"].startswith("text/event-stream")
    kind, data = answer.text.strip().split("\n")
    assert kind == "event: succeeded"
    assert json.loads(data.removeprefix("data: "))["progress"]["message"] == "done"


def test_metrics_tell_jobs_depths_and_run_times(client, world):
    client.get("/metrics")
    submit(client, "done")
    world.run()
    submit(client, "waiting", tier="premium")

    lines = client.get("/metrics").text.splitlines()

    assert 'cicely_jobs{queue="evaluation",state="succeeded"} 1' in lines
    assert 'cicely_jobs{queue="high_priority",state="ready"} 1' in lines
    assert f'cicely_run_seconds_count{{task="{evaluate.name}",queue="evaluation"}} 1' in lines


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


def test_the_evaluation_task_can_be_listed_by_its_name():
    assert evaluate.name == "examples.code_evaluation.app.evaluate"
