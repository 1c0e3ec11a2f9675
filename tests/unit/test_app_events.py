"""Events and rollups as an app sees them, in virtual time."""

import asyncio

import pytest

from cicely import Cicely, ConfigError, Retry
from cicely.testing.inline import inline


class Told(Exception):
    """What the tests' jobs raise."""


@pytest.fixture
def app():
    app = Cicely("told", "memory://")

    @app.task(name="told.work", retry=Retry(attempts=2, backoff=5, jitter=0))
    def work(outcome):
        if outcome == "bad":
            raise Told("no")

    @app.task(name="told.watched", events=True)
    def watched():
        """Do nothing, in sight."""

    app.work, app.watched = work, watched
    return app


def kinds(events):
    return [event.kind for event in events]


def test_what_went_wrong_is_told_and_what_went_well_is_not(app):
    with inline(app) as world:
        app.work.delay("good")
        bad = app.work.delay("bad")
        world.advance(10)

        told = list(app.events("job"))

    assert [(event.kind, event.job_id) for event in told] == [
        ("job.retried", bad.id),
        ("job.failed", bad.id),
    ]


def test_of_a_task_with_events_each_start_and_success_is_told(app):
    with inline(app) as world:
        app.watched.delay()
        world.run()

        assert kinds(app.events(task="told.watched")) == ["job.started", "job.succeeded"]


def test_an_iterator_resumes_from_its_cursor(app):
    with inline(app) as world:
        app.watched.delay()
        world.run()
        events = app.events()
        first = next(iter(events))

        rest = list(app.events(cursor=events.cursor))

    assert first.kind == "job.started"
    assert first.cursor == events.cursor
    assert kinds(rest) == ["job.succeeded"]


def test_a_follower_begins_with_what_is_to_come(app, monkeypatch):
    with inline(app) as world:
        app.watched.delay()
        world.run()
        following = iter(app.events(follow=True))

        def another_job(_):
            app.watched.delay()
            world.run()

        monkeypatch.setattr("cicely.history.time.sleep", another_job)

        assert [next(following).kind for _ in range(4)] == ["job.started", "job.succeeded"] * 2


def test_events_are_iterated_in_a_loop_as_well(app):
    async def collected():
        return [event.kind async for event in app.events()]

    with inline(app) as world:
        app.watched.delay()
        world.run()

        assert asyncio.run(collected()) == ["job.started", "job.succeeded"]


def test_a_loop_follows_and_goes_on_meanwhile(app, monkeypatch):
    async def first_to_come(world):
        following = aiter(app.events("job.started", follow=True))
        step = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0.05)
        app.watched.delay()
        world.run()
        return await asyncio.wait_for(step, 5)

    monkeypatch.setattr("cicely.history.FOLLOW_S", 0.01)
    with inline(app) as world:
        assert asyncio.run(first_to_come(world)).task == "told.watched"


@pytest.mark.parametrize("kind", ["tasks", ["job.failed", "xyz"], [None], 3, ""])
def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(app, kind):
    with inline(app), pytest.raises(ConfigError, match=r"there is no event .*; there are job, .*job\.failed"):
        app.events(kind)


@pytest.mark.parametrize(
    ("kind", "near"),
    [
        ("job.fail", "job.failed"),
        (["job", "worker.join"], "worker.joined"),
        ("failed", "job.failed"),
        ("jobs", "job"),
    ],
)
def test_a_kind_that_is_misspelt_is_refused_with_the_nearest(app, kind, near):
    with inline(app), pytest.raises(ConfigError, match=f"did you mean {near}\\?"):
        app.events(kind, follow=True)


@pytest.mark.parametrize("cursor", ["rubbish", "-1", "1" * 19, 5, "१"])
def test_a_cursor_that_nobody_gave_out_is_refused(app, cursor):
    with inline(app), pytest.raises(ConfigError, match="the cursor of an event"):
        app.events(cursor=cursor)


@pytest.mark.parametrize("fields", ["eval_id", ["eval id"], [3]])
def test_log_fields_are_names_of_parameters(app, fields):
    with pytest.raises(ConfigError, match="log_fields"):
        app.task(log_fields=fields)


def test_log_fields_that_the_function_has_not_are_refused(app):
    with pytest.raises(ConfigError, match="has no parameter 'evalid'; its parameters: eval_id"):

        @app.task(log_fields=["evalid"])
        def work(eval_id):
            """Do nothing."""
