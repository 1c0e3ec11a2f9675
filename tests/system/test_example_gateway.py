"""`examples/code_evaluation`: what its gateway accepts and tells, also while the service is moved."""

from __future__ import annotations

import json

import pytest
from example_callers import client, ids, submit, world
from examples.code_evaluation import moving
from examples.code_evaluation.app import evaluate

from cicely import EngineUnavailable, JobNotFound
from cicely.migration import Standing

__all__ = ["client", "world"]


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


@pytest.mark.parametrize(
    "body",
    [
        b'{"eval_id": NaN, "code": ""}',
        b'{"eval_id": "a", "code": "\\ud800"}',
        b'{"eval_id": "\\ud800", "code": "", "tier": "\\ud800"}',
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_what_no_answer_could_repeat_is_refused_as_well(client, body, kind):
    answer = client.post("/evaluations", content=body, headers={"Content-Type": kind})

    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


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


def test_a_batch_with_an_id_of_another_program_is_refused_whole(client):
    submit(client, "known", code="print(1)")
    lines = [{"eval_id": "new", "code": "pass"}, {"eval_id": "known", "code": "print(2)"}]
    twice = [{"eval_id": "new", "code": "pass"}, {"eval_id": "new", "code": "print(1)"}]

    answers = [client.post("/batches", content="\n".join(map(json.dumps, batch))) for batch in (lines, twice)]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert answers[0].json()["detail"] == "known: ids of other programs, choose new ones"
    assert ids(client.get("/evaluations")) == ["known"]


def test_a_batch_may_be_repeated(client, world):
    batch = "\n".join(json.dumps({"eval_id": f"e{number}", "code": "pass"}) for number in range(3))

    answers = [client.post("/batches", content=batch).json() for _ in range(2)]

    assert answers == [{"accepted": 3, "queue": "batch"}] * 2
    assert world.run() == 3


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


def test_events_outlive_an_engine_that_is_away(client, world, monkeypatch):
    submit(client)
    world.run()
    answers = iter([EngineUnavailable("away"), JobNotFound("e1")])

    def away(_):
        raise next(answers)

    monkeypatch.setattr("examples.code_evaluation.gateway._shown", away)

    assert client.get("/evaluations/e1/events").text == ": the engine is away\n\n"


def test_metrics_tell_jobs_depths_and_run_times(client, world):
    client.get("/metrics")
    submit(client, "done")
    world.run()
    submit(client, "waiting", tier="premium")

    lines = client.get("/metrics").text.splitlines()

    assert 'cicely_jobs{queue="evaluation",state="succeeded"} 1' in lines
    assert 'cicely_jobs{queue="high_priority",state="ready"} 1' in lines
    assert f'cicely_run_seconds_count{{task="{evaluate.name}",queue="evaluation"}} 1' in lines


# --- the move ------------------------------------------------------------------------------------


class OldQueue(dict):
    is_down = False

    def answer(self):
        if self.is_down:
            raise ConnectionRefusedError("nobody there")


@pytest.fixture
def old(world, monkeypatch, tmp_path):
    """Return what the old queue has, while half of all goes there."""
    jobs = OldQueue()

    class Old:
        def __init__(self, url):
            pass

        def submit(self, job_id, payload):
            jobs.answer()
            jobs.setdefault(job_id, payload)

        def status(self, job_id):
            jobs.answer()
            return Standing(state="live") if job_id in jobs else None

    monkeypatch.setattr(moving, "Old", Old)
    monkeypatch.setenv(moving.OLD_VARIABLE, "http://127.0.0.1:1")
    monkeypatch.setenv(moving.BOOK_VARIABLE, str(tmp_path / "book"))
    monkeypatch.setattr("examples.code_evaluation.gateway.moves", moving.migrations())
    moving.migration().set(50)
    return jobs


def test_while_the_service_is_moved_all_that_is_submitted_is_split_and_keeps_its_queue(client, old):
    lines = [json.dumps({"eval_id": f"bulk-{number}", "code": "pass"}) for number in range(30)]
    for _ in range(2):
        client.post("/batches", content="\n".join(lines))
        for number in range(30):
            submit(client, f"premium-{number}", tier="premium")

    found = client.get("/evaluations").json()["evaluations"]
    assert 10 < len(old) < 50
    assert len(old) + len(found) == moving.migration().verify().accepted == 60
    assert {(one["eval_id"].partition("-")[0], one["queue"]) for one in found} == {
        ("bulk", "batch"),
        ("premium", "high_priority"),
    }


def test_while_the_service_is_moved_a_repetition_finds_its_first_side_whatever_the_share_is_now(client, old):
    sides = [submit(client, f"e{number}").json()["side"] for number in range(20)]
    moving.migration().set(100)
    again = [submit(client, f"e{number}") for number in range(20)]

    assert [answer.json()["side"] for answer in again] == sides
    assert {answer.status_code for answer in again} == {200}
    assert {client.get(f"/evaluations/e{number}").json()["eval_id"] for number in range(20)} == {
        f"e{number}" for number in range(20)
    }


def test_while_the_old_queue_is_down_the_new_side_takes_everything(client, old):
    before = [submit(client, f"e{number}").json()["side"] for number in range(20)]
    old.is_down = True

    after = [submit(client, f"late-{number}") for number in range(20)]
    batch = client.post("/batches", content='{"eval_id": "bulk", "code": "pass"}')

    assert set(before) == {"old", "new"}
    assert {(one.status_code, one.json()["side"]) for one in after} == {(202, "new")}
    assert batch.status_code == 202
    # Of what the old queue has, nobody can say how it stands: the caller is to ask again.
    again = submit(client, f"e{before.index('old')}")
    assert (again.status_code, again.headers["retry-after"]) == (503, "5")
    assert client.get("/evaluations/nobody").status_code == 503
    old.is_down = False
    assert moving.migration().verify().accepted == 41


def test_what_the_old_queue_has_can_neither_be_followed_nor_cancelled(client, old):
    moving.migration().set(0)
    submit(client)

    assert client.get("/evaluations/e1").json()["side"] == "old"
    assert client.get("/evaluations/e1/events").status_code == 409
    assert client.post("/evaluations/e1/cancel").status_code == 409
