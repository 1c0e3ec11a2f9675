"""Dead letters: failures in groups, revived by rule, told of once per group and cool-down."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cicely import Alert, Cicely, ConfigError, DeadLetter, Revive, State
from cicely.core.dead_letter import letter_of
from cicely.testing.inline import inline
from cicely.upkeep.alarms import Alarms


class Wrong(Exception):
    """What the tests' jobs raise."""


@pytest.fixture
def app():
    app = Cicely("dead", "memory://")
    app.is_well = False

    @app.task(name="dead.work")
    def work(number):
        if app.is_well:
            return number
        if number < 0:
            raise KeyError(number)
        raise Wrong(f"eval {number} of 'me' failed")

    app.work = work
    return app


@pytest.fixture
def world(app):
    with inline(app) as world:
        yield world


def fail(app, world, *numbers):
    jobs = [app.work.delay(number) for number in numbers]
    world.run()
    return jobs


# --- groups -------------------------------------------------------------------------------------
def test_failures_that_are_alike_are_one_group(app, world):
    wrong = fail(app, world, 1, 2, 3)
    world.advance(60)
    [key] = fail(app, world, -1)

    groups = app.dead_letters()

    assert [(group.error.rpartition(".")[2], group.count) for group in groups] == [
        ("Wrong", 3),
        ("KeyError", 1),
    ]
    assert groups[0].message == "eval <n> of <value> failed"
    assert groups[0].job_ids == tuple(sorted(job.id for job in wrong))
    assert groups[1].job_ids == (key.id,)
    assert groups[1].first_at == groups[1].last_at == groups[0].last_at + 60


def test_groups_are_chosen_by_task_error_and_time(app, world):
    fail(app, world, 1)
    world.advance(60)
    now = world.now
    fail(app, world, -1)

    assert [group.count for group in app.dead_letters(error=Wrong)] == [1]
    assert [group.count for group in app.dead_letters(error=(Wrong, "KeyError"))] == [1, 1]
    assert [group.error for group in app.dead_letters(since=now)] == ["builtins.KeyError"]
    assert app.dead_letters(task="dead.other") == []


def test_only_jobs_that_are_failed_now_are_dead(app, world):
    [job] = fail(app, world, 1)
    app.is_well = True
    app.revive(job.id)
    world.run()

    assert app.dead_letters() == []


# --- reviving -----------------------------------------------------------------------------------
def test_a_rule_revives_each_job_so_often_and_no_more(app, world):
    [job] = fail(app, world, 1)
    rule = Revive(error=Wrong, at_most=2)

    reports = []
    for _ in range(4):
        reports.append(app.process_dead_letters(revive=[rule]).revived)
        world.run()

    assert reports == [(job.id,), (job.id,), (), ()]
    assert job.state is State.FAILED


def test_a_rule_waits_for_its_time(app, world):
    fail(app, world, 1)
    rule = Revive(after="10m")

    assert app.process_dead_letters(revive=[rule]).revived == ()
    world.advance(601)
    assert len(app.process_dead_letters(revive=[rule]).revived) == 1


def test_a_rule_leaves_other_errors_and_tasks_alone(app, world):
    fail(app, world, 1, -1)

    report = app.process_dead_letters(revive=[Revive(error="KeyError"), Revive(task="dead.other")])

    assert len(report.revived) == 1
    assert [group.error.rpartition(".")[2] for group in app.dead_letters()] == ["Wrong"]


# --- alerting -----------------------------------------------------------------------------------
def test_a_group_is_told_of_once_and_again_after_the_cool_down(app, world):
    told = []
    alert = Alert(to=told.append, error=Wrong, cooldown="1h")
    fail(app, world, 1, 2, -1)

    for _ in range(3):
        app.process_dead_letters(alert=[alert])
    fail(app, world, 3)
    app.process_dead_letters(alert=[alert])
    world.advance(3601)
    app.process_dead_letters(alert=[alert])

    assert [group.count for group in told] == [2, 3]


def test_a_group_is_told_of_when_it_is_large_enough(app, world):
    told = []
    alert = Alert(to=told.append, at_least=2)
    fail(app, world, 1)
    app.process_dead_letters(alert=[alert])
    fail(app, world, 2)
    app.process_dead_letters(alert=[alert])

    assert [group.count for group in told] == [2]


def test_an_alert_that_could_not_be_sent_is_tried_again(app, world):
    calls = []

    def tell(group):
        calls.append(group)
        if len(calls) == 1:
            raise OSError("nobody listens")

    fail(app, world, 1)
    reports = [app.process_dead_letters(alert=[Alert(to=tell)]) for _ in range(3)]

    assert [len(report.alerted) for report in reports] == [0, 1, 0]
    assert list(reports[0].unsent.values()) == ["OSError: nobody listens"]


def test_a_webhook_gets_json(app, world):
    bodies = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        [job] = fail(app, world, 7)
        report = app.process_dead_letters(alert=[Alert(to=f"http://127.0.0.1:{server.server_port}/x")])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    [body] = bodies
    assert report.alerted == (body["fingerprint"],)
    assert (body["app"], body["task"], body["count"], body["jobs"]) == ("dead", "dead.work", 1, [job.id])
    assert body["message"] == "eval 7 of 'me' failed"


def test_a_webhook_that_does_not_answer_is_reported(app, world):
    fail(app, world, 7)

    report = app.process_dead_letters(alert=[Alert(to="http://127.0.0.1:1/x")])

    assert report.alerted == ()
    assert "refused" in next(iter(report.unsent.values())).lower()


@pytest.mark.parametrize("to", ["ftp://example.org", "example.org/hook", 7])
def test_what_is_no_webhook_is_refused(app, world, to):
    fail(app, world, 1)

    with pytest.raises(ConfigError, match="https://"):
        app.process_dead_letters(alert=[Alert(to=to)])


def test_one_of_many_callers_is_first(app, world):
    alarms = [Alarms(world.engine, now=100.0) for _ in range(3)]

    assert [one.is_ours("x", cooldown_s=60) for one in alarms] == [True, False, False]
    assert Alarms(world.engine, now=159.0).is_ours("x", cooldown_s=60) is False
    assert Alarms(world.engine, now=160.0).is_ours("x", cooldown_s=60) is True


# --- a scheduled task ---------------------------------------------------------------------------
def test_a_job_may_process_and_return_what_came_of_it(app, world):
    @app.task(name="dead.process")
    def process():
        return app.process_dead_letters(revive=[Revive()]).summary()

    fail(app, world, 1, 2)
    app.is_well = True

    summary = process.delay().get()

    assert [(group["count"], group["message"]) for group in summary["groups"]] == [
        (2, "eval <n> of <value> failed")
    ]
    assert len(summary["revived"]) == 2
    assert app.dead_letters() == []


def test_a_letter_of_an_attempt_that_nobody_knows_any_more_says_so(app, world):
    [job] = fail(app, world, 1)
    [record] = world.engine.get([job.id])

    letter = letter_of(record, 9)

    assert isinstance(letter, DeadLetter)
    assert letter.error.message == "no error was recorded"
    assert letter_of(record).reason == "error"


@pytest.mark.parametrize(
    ("rule", "given", "says"),
    [
        (Revive, {"at_most": 0}, "at_most=0"),
        (Revive, {"after": "soon"}, "after='soon'"),
        (Revive, {"error": 5}, "error=5"),
        (Alert, {"to": "hooks"}, "to='hooks'"),
        (Alert, {"to": print, "at_least": 0}, "at_least=0"),
        (Alert, {"to": print, "cooldown": -1}, "cooldown=-1"),
        (Alert, {"to": print, "error": 5}, "error=5"),
    ],
)
def test_rules_are_checked_where_they_are_written(
    rule: type[Revive] | type[Alert], given: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        rule(**given)  # type: ignore[arg-type]
