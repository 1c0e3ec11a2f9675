"""`app.schedule`: what is declared, what is refused where it is declared, and schedules in virtual time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from cicely import Cicely, ConfigError, NotStorable, cron, every
from cicely.canvas import Signature
from cicely.core.job import Kind
from cicely.core.schedule import decode
from cicely.errors import UnknownTask
from cicely.testing import inline
from cicely.upkeep.schedules import declare
from cicely.workflow.nodes import Call


def sig(task, args=(), **options):
    """Return the signature of a task by its name, which need not be one."""
    return Signature(Call(task=task, args=args, options=options), None)


SEEN: list[Any] = []


@pytest.fixture
def app():
    SEEN.clear()
    app = Cicely("clock", "memory://")

    @app.task(name="note")
    def note(value="tick"):
        SEEN.append(value)

    @app.task(name="anote", keep="1h", tags=["eu"])
    async def anote(value):
        SEEN.append(value)

    app.queue("slow")
    return app


def plan_of(app, name="s"):
    return decode(app.declared_schedules()[name], name=name)


# --- declaring ----------------------------------------------------------------------------------
def test_a_declared_schedule_holds_all_of_its_job(app):
    app.schedule("s", sig("anote", (7,), queue="slow", priority=8), every("1h"), jitter="5m")

    plan = plan_of(app)

    job = plan.job
    assert (job.task, job.kind, job.queue, job.priority, job.keep_s) == (
        "anote",
        Kind.ASYNC,
        "slow",
        8,
        3_600,
    )
    assert job.tags == ("eu",)
    assert plan.jitter_s == 300
    assert app.values_without_engine().unpack_call("any", job.body) == ((7,), {})


def test_a_body_is_signed_with_the_apps_key_and_can_be_read_under_every_id():
    app = Cicely("signed", "memory://", keys=[b"k" * 32])

    @app.task(name="note")
    def note(value):
        SEEN.append(value)

    SEEN.clear()
    app.schedule("s", sig("note", (7,)), every("1h"))

    with inline(app) as world:
        world.advance("2h")

    assert SEEN == [7, 7]


def test_declaring_opens_no_engine():
    app = Cicely("clock", "sqlite:////nowhere/at/all.db")

    @app.task(name="note")
    def note():
        """Do nothing."""

    app.schedule("s", sig("note"), cron("0 5 * * *", tz="Europe/Berlin"))

    assert list(app.manifest()["schedules"]) == ["s"]


def test_a_route_that_is_declared_later_still_counts(app):
    app.schedule("s", sig("note"), every("1h"))
    app.route({"note": "slow"})

    assert plan_of(app).job.queue == "slow"


def test_a_task_by_itself_is_a_call_without_arguments_and_a_signature_keeps_its_own():
    app = Cicely("clock", "memory://")
    app.queue("slow")
    SEEN.clear()

    @app.task(name="note")
    def note(value="tick"):
        SEEN.append(value)

    app.schedule("plain", note, every("1h"))
    app.schedule("given", note.s("given").set(queue="slow"), every("1h"))
    app.schedule("optioned", note.options(priority=9).s("optioned"), every("1h"))

    with inline(app) as world:
        world.advance("1h")

    assert sorted(SEEN) == ["given", "optioned", "tick"]
    assert (plan_of(app, "given").job.queue, plan_of(app, "optioned").job.priority) == ("slow", 9)


# --- refused where it is declared ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("signature", "error", "reason"),
    [
        (sig("notes"), UnknownTask, "did you mean note"),
        (sig("note", (1, 2, 3)), TypeError, "too many positional arguments"),
        (sig("note", (lambda: 1,)), NotStorable, "argument 1 of note"),
        (sig("note", ("x" * 70_000,)), NotStorable, "a schedule keeps up to 65,536"),
        (sig("note", id="x"), ConfigError, "id= means one job"),
        (sig("note", eta=datetime.now(UTC)), ConfigError, "eta= means one job"),
        (sig("note", expires=datetime.now(UTC)), ConfigError, "counted from each tick"),
        (sig("note", prioritty=1), ConfigError, "did you mean priority"),
        (sig("note", after="x"), ConfigError, "after= means one job"),
        ("note", ConfigError, r"write task.s\(...\)"),
        (len, ConfigError, r"write task.s\(...\)"),
        (sig("note") | sig("note"), ConfigError, "schedule a task that returns their chain"),
        (sig("note").on_error(sig("note")), ConfigError, "without link and link_error"),
    ],
)
def test_a_call_that_can_never_work_is_refused(app, signature, error, reason):
    with pytest.raises(error, match=reason):
        app.schedule("s", signature, every("1h"))

    assert app.declared_schedules() == {}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"when": "30s"}, r'write every\("30s"\)'),
        ({"catch_up": "never"}, "catch_up='never'"),
        ({"overlap": "never"}, "overlap='never'"),
        ({"jitter": "soon"}, "jitter='soon'"),
        ({"name": "a b"}, "a printable name"),
    ],
)
def test_a_rule_that_can_never_work_is_refused(app, given, reason):
    whole = {"name": "s", "when": every("1h")} | given
    name, when = whole.pop("name"), whole.pop("when")

    with pytest.raises(ConfigError, match=reason):
        app.schedule(name, sig("note"), when, **whole)


def test_jobs_that_would_expire_before_they_start_are_refused(app):
    with pytest.raises(ConfigError, match=r"up to 700 s after their tick .* expire after 600 s"):
        app.schedule("s", sig("note", expires="10m", countdown=100), every("1h"), jitter="10m")


def test_a_name_is_taken_once(app):
    app.schedule("s", sig("note"), every("1h"))

    with pytest.raises(ConfigError, match="two schedules are called s"):
        app.schedule("s", sig("note"), every("2h"))


# --- in virtual time ----------------------------------------------------------------------------
def test_ticks_run_at_their_instants(app):
    app.schedule("s", sig("note"), every("30s"))

    with inline(app) as world:
        began_at = world.now
        world.advance("5m")

    assert len(SEEN) == 10
    assert [ran.at % 30 for ran in world.ran] == pytest.approx([0] * 10)
    assert began_at < world.ran[0].at <= began_at + 30
    assert world.ran[0].job_id.startswith("s@2")


def test_a_schedule_that_is_declared_later_ticks_from_then_on(app):
    with inline(app) as world:
        world.advance("1h")
        app.schedule("s", sig("note"), every("10m"), catch_up="all")
        world.run()
        world.advance("1h")

    assert len(SEEN) == 6


def test_a_handle_pauses_resumes_runs_and_removes(app):
    # At half past by this test's clock: no tick is near when it pauses and resumes.
    start = datetime.now(UTC) + timedelta(minutes=30)
    handle = app.schedule("s", sig("note", ("x",)), every("1h", start=start), catch_up="skip")
    with inline(app) as world:
        assert not handle.paused
        assert handle.last is None
        world.advance("1h")
        assert handle.last == datetime.fromtimestamp(world.ran[-1].at, UTC)
        handle.pause()
        world.advance("5h")
        assert handle.paused
        assert len(SEEN) == 1
        handle.resume()
        world.advance("1h")
        assert len(SEEN) == 2
        job = handle.run()
        world.run()
        assert job.state == "succeeded"
        assert job.id.startswith("s@")
        assert handle.remove()
        world.advance("5h")
        assert len(SEEN) == 3
        assert not handle.remove()


def test_the_next_ticks_are_shown_in_the_zone_of_the_rule_also_before_a_worker_started(app):
    handle = app.schedule("s", sig("note"), cron("0 5 * * *", tz="Europe/Berlin"))

    with inline(app) as world:
        inside = handle.next(3)
        assert world.engine.drop_schedule("s")
        before = handle.next(3)

    assert inside == before
    assert [moment.hour for moment in inside] == [5, 5, 5]
    assert str(inside[0].tzinfo) == "Europe/Berlin"
    assert inside[0] > datetime.now(UTC)


def test_skipped_ticks_are_counted(app):
    handle = app.schedule("s", sig("note", countdown=3_600), every("10m"), overlap="skip")
    with inline(app) as world:
        world.advance("60m")

        assert handle.skipped == 5


def test_schedules_of_code_and_engine_are_listed(app):
    app.schedule("in-code", sig("note"), every("1h"))
    with inline(app):
        app.add_schedule("added", sig("note"), every("1h"))

        assert [schedule.name for schedule in app.schedules()] == ["added", "in-code"]
        assert repr(app.schedules()[0]) == "<schedule added>"


def test_a_schedule_added_at_run_time_ticks_until_it_is_removed(app):
    with inline(app) as world:
        handle = app.add_schedule("s", sig("note", ("added",)), every("1m"))
        world.run()
        world.advance("2m")
        handle.remove()
        world.advance("2m")

    assert SEEN == ["added"] * 2


def test_adding_a_name_that_is_taken_is_refused(app):
    app.schedule("in-code", sig("note"), every("1h"))
    with inline(app):
        app.add_schedule("s", sig("note"), every("1h"))

        with pytest.raises(ConfigError, match="remove it first"):
            app.add_schedule("s", sig("note"), every("2h"))
        with pytest.raises(ConfigError, match="the app declares a schedule in-code"):
            app.add_schedule("in-code", sig("note"), every("2h"))


def test_an_unknown_schedule_is_named_with_the_nearest(app):
    handle = app.schedule("nightly", sig("note"), every("1h"))
    with inline(app) as world:
        world.engine.drop_schedule("nightly")
        with pytest.raises(ConfigError, match="put into the engine when a worker starts"):
            handle.pause()
        app.add_schedule("nightlies", sig("note"), every("1h"))
        with pytest.raises(ConfigError, match="did you mean nightlies"):
            handle.run()


def test_a_tick_and_a_run_carry_the_tag_of_their_schedule(app):
    handle = app.schedule("s", sig("note"), every("1h"))
    with inline(app) as world:
        world.advance("1h")
        handle.run()

        assert len(list(app.jobs(tag="schedule:s"))) == 2


def test_intervals_may_be_timedeltas_with_a_start(app):
    with inline(app) as world:
        start = datetime.fromtimestamp(world.now, UTC) + timedelta(hours=3)
        app.schedule("s", sig("note"), every(timedelta(hours=1), start=start))
        world.run()
        world.advance("2h")
        assert SEEN == []
        world.advance("2.5h")
        assert len(SEEN) == 2


def test_what_a_worker_declares_is_what_the_manifest_says(app):
    app.schedule("s", sig("note"), every("1h"))
    with inline(app) as world:
        manifest = msgspec.msgpack.decode(msgspec.msgpack.encode(app.manifest()))

        assert declare(world.engine, manifest["schedules"]) == []
