"""Tasks as users declare, call and enqueue them, on the memory engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from cicely import Cicely, ConfigError, JobNotFound, Retry, UsageError, stable
from cicely.core.job import Kind
from cicely.core.task import Limits
from cicely.engines.memory import MemoryEngine
from cicely.errors import NotStorable, UnknownQueue


@pytest.fixture
def app() -> Iterator[Cicely]:
    app = Cicely("tests")
    app.use(MemoryEngine())
    yield app
    app.close()


def record_of(app: Cicely, job_id: str):
    [record] = app.engine.get([job_id])
    assert record is not None
    return record


# --- declaring ------------------------------------------------------------------------------------
def test_a_task_is_still_its_function(app):
    @app.task
    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    assert double(4) == 8
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice."
    assert double.name == f"{__name__}.test_a_task_is_still_its_function.<locals>.double"


def test_a_coroutine_task_is_still_its_coroutine_function(app):
    @app.task(queue="q")
    async def double(x: int) -> int:
        return 2 * x

    assert asyncio.run(double(4)) == 8
    assert record_of(app, double.delay(1).id).kind is Kind.ASYNC


def test_a_bound_task_gets_itself_first(app):
    @app.task(bind=True, name="me")
    def me(self, x):
        return self.name, x

    assert me(1) == ("me", 1)
    assert app.resolve("me").owner is me


def test_two_functions_of_one_name_are_refused(app):
    app.task(name="same")(lambda: 1)

    with pytest.raises(ConfigError, match="two tasks are called same"):
        app.task(name="same")(lambda: 2)


def test_an_unknown_option_names_the_nearest(app):
    with pytest.raises(ConfigError, match="no option time_out=; did you mean timeout="):
        app.task(time_out=3)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"priority": 10}, "priority=10: a whole number from 0 to 9"),
        ({"priority": True}, "priority=True"),
        ({"timeout": -1}, "timeout=-1"),
        ({"timeout": 0}, "timeout=0: no attempt ends in no time"),
        ({"memory": "lots"}, "memory='lots'"),
        ({"memory": 0.5}, "memory=0.5"),
        ({"retry": 3}, "retry=3: write retry=Retry"),
        ({"raises": "ValueError"}, "raises='ValueError': an exception class"),
        ({"tags": "eval"}, "tags='eval': a list"),
        ({"isolate": 1}, "isolate=1: True or False"),
        ({"traceback_locals": "no"}, "traceback_locals='no': True or False"),
        ({"bind": 1}, "bind=1: True or False"),
        ({"queue": 7}, "queue=7"),
        ({"tags": 5}, "tags=5: a list"),
        ({"name": 5}, "name=5: a printable text"),
        ({"name": ""}, "name='': a printable text"),
        ({"name": "\ud800"}, "a printable text"),
    ],
)
def test_an_option_out_of_range_is_refused(app, option, sentence):
    with pytest.raises(ConfigError) as refusal:
        app.task(**option)

    assert sentence in str(refusal.value)


def test_memory_implies_isolation(app):
    task = app.task(name="t", memory="512M")(lambda: None)

    assert app.resolve("t").options.limits == Limits(memory_bytes=512 << 20, isolate=True)
    assert record_of(app, task.delay().id).kind is Kind.ISOLATED


# --- enqueueing -----------------------------------------------------------------------------------
def test_delay_refuses_arguments_that_do_not_fit(app):
    @app.task(name="pair")
    def pair(a, b, *, c=0): ...

    for args, kwargs in [((1,), {}), ((1, 2, 3), {}), ((1, 2), {"d": 1})]:
        with pytest.raises(TypeError, match=r"pair\(a, b, \*, c=0\)"):
            pair.delay(*args, **kwargs)
    assert not list(app.jobs())


def test_delay_refuses_values_that_cannot_be_kept(app):
    task = app.task(name="t")(lambda x: x)

    with pytest.raises(NotStorable, match="argument 1 of t is a lambda"):
        task.delay(lambda: 1)


def test_a_job_gets_the_options_of_its_task(app):
    app.queue("q", ageing="1h")
    task = app.task(name="t", queue="q", priority=7, expires="5m", lane="l", tags=["x"], keep="1h")(print)

    record = record_of(app, task.delay(1).id)

    assert (record.task, record.queue, record.priority, record.lane) == ("t", "q", 7, "l")
    assert record.tags == ("x",)
    assert record.expires_at == pytest.approx(record.created_at + 300)


def test_the_options_of_a_call_go_before_those_of_its_task(app):
    app.queue("other")
    task = app.task(name="t", priority=1, tags=["x"], timeout=9)(print)

    job = task.options(
        queue="other", priority=9, tags=["y"], countdown="1m", lane="l", timeout=3, id="known"
    ).delay()

    record = record_of(app, job.id)
    assert (job.id, record.queue, record.priority, record.tags) == ("known", "other", 9, ("x", "y"))
    assert (record.state, record.lane) == ("scheduled", "l")
    assert record.due_at == pytest.approx(record.created_at + 60)
    assert b"timeout_s" in record.options


def test_apply_async_takes_arguments_and_options_apart(app):
    task = app.task(name="t")(lambda a, b: None)
    due = datetime.now(UTC) + timedelta(hours=1)

    job = task.apply_async((1,), {"b": 2}, eta=due, expires=due + timedelta(hours=1))

    record = record_of(app, job.id)
    assert record.due_at == due.timestamp()
    assert record.expires_at == due.timestamp() + 3600
    assert job.info()["arguments"] == "1, b=2"


def test_an_instant_without_a_time_zone_is_refused(app):
    task = app.task(name="t")(lambda: None)

    with pytest.raises(ConfigError, match=r"eta=2030-01-01T00:00:00 has no time zone"):
        task.apply_async(eta=datetime(2030, 1, 1))


def test_options_that_exclude_each_other_are_refused(app):
    task = app.task(name="t")(lambda: None)

    with pytest.raises(ConfigError, match="countdown= and eta="):
        task.options(countdown=1, eta=datetime.now(UTC))


def test_an_unknown_option_of_a_call_names_the_nearest(app):
    task = app.task(name="t")(lambda: None)

    with pytest.raises(ConfigError, match="did you mean countdown="):
        task.options(count_down=1)


def test_an_undeclared_queue_is_refused_with_the_nearest_name(app):
    app.queue("evaluation")
    task = app.task(name="t")(lambda: None)

    with pytest.raises(UnknownQueue, match="did you mean evaluation"):
        task.apply_async(queue="evaluatoin")


def test_lane_and_unique_may_be_functions_of_the_arguments(app):
    task = app.task(name="t", lane=lambda user, n: user, unique=lambda user, n: user)(lambda user, n: None)

    first = task.delay("ann", 1)
    second = task.delay("ann", 2)
    other = task.delay("bob", 1)

    assert first.id == second.id != other.id
    assert record_of(app, first.id).lane == "ann"


def test_unique_args_gives_the_second_caller_the_first_ones_handle(app):
    task = app.task(name="t", unique="args")(lambda a, b=2: None)

    same = {task.delay(1).id, task.delay(1, 2).id, task.delay(b=2, a=1).id}

    assert len(same) == 1
    assert task.delay(1, 3).id not in same


def test_unique_keys_of_two_tasks_do_not_meet(app):
    one = app.task(name="one", unique="key")(lambda: None)
    two = app.task(name="two", unique="key")(lambda: None)

    assert one.delay().id != two.delay().id


def test_a_chosen_id_is_enqueued_once(app):
    task = app.task(name="t")(lambda x: None)

    first = task.options(id="eval-1").delay(1)
    second = task.options(id="eval-1").delay(2)

    assert first.id == second.id == "eval-1"
    assert second.info()["arguments"] == "1"


def test_a_stable_id_follows_from_the_arguments_however_they_are_passed(app):
    task = app.task(name="t")(lambda a, b: None)
    requests = task.options(id=stable("v1"))

    same = {requests.delay(1, {"x": 1, "y": 2}).id, requests.delay(b={"y": 2, "x": 1}, a=1).id}

    assert len(same) == 1
    assert task.options(id=stable("v2")).delay(1, {"x": 1, "y": 2}).id not in same


@pytest.mark.parametrize("bad", ["", "a\nb", "x" * 201, 7])
def test_an_id_that_cannot_be_one_is_refused(app, bad):
    task = app.task(name="t")(lambda: None)

    with pytest.raises(ConfigError, match="id="):
        task.options(id=bad)


def test_one_id_for_many_rows_is_refused(app):
    task = app.task(name="t")(lambda n: None)

    with pytest.raises(UsageError, match="one id= is one job"):
        task.options(id="mine").delay_many([(1,), (2,)])
    with pytest.raises(TypeError, match="ids=5: a function of the row"):
        task.delay_many([(1,)], ids=5)


def test_arguments_that_are_no_list_are_refused(app):
    task = app.task(name="t")(lambda a, b: None)

    for wrong in (5, "ab"):
        with pytest.raises(TypeError, match="a list of arguments, as in"):
            task.apply_async(wrong)
    with pytest.raises(TypeError, match="a dict of arguments by name"):
        task.apply_async([1, 2], 5)


def test_what_has_no_parameters_to_read_is_no_task(app):
    with pytest.raises(ConfigError, match="wrap it in a function"):
        app.task(name="d")(dict)


def test_routes_that_make_no_sense_are_refused(app):
    task = app.task(name="t")(lambda: None)

    with pytest.raises(ConfigError, match="a dict, as in"):
        app.route(["t", "small"])
    app.route({"t": lambda: 5})
    with pytest.raises(ConfigError, match="the route 't' answered 5: a queue's name, or None"):
        task.delay()


def test_a_codec_needs_its_two_functions(app):
    with pytest.raises(ConfigError, match="encode and decode are functions"):
        app.codec(type("Point", (), {}), str, None, tag="point")


@pytest.mark.parametrize("option", ["lane", "unique"])
def test_a_function_that_answers_no_text_is_refused(app, option):
    for answer in (5, "\ud800"):
        task = app.task(name=f"t{answer!r}", **{option: lambda answer=answer: answer})(lambda: None)
        with pytest.raises(ConfigError, match=f"{option}= of t.* answered"):
            task.delay()


def test_routes_go_by_pattern_or_by_the_arguments(app):
    app.queue("small")
    app.route({"gpu_*": "gpu", "t": lambda n: "small" if n < 10 else None})
    gpu = app.task(name="gpu_train")(lambda: None)
    task = app.task(name="t")(lambda n: None)

    assert record_of(app, gpu.delay().id).queue == "gpu"
    assert record_of(app, task.delay(1).id).queue == "small"
    assert record_of(app, task.delay(11).id).queue == "default"
    assert record_of(app, task.options(queue="gpu").delay(1).id).queue == "gpu"


# --- many -----------------------------------------------------------------------------------------
def test_delay_many_returns_handles_in_order_over_several_pages(app):
    task = app.task(name="t")(lambda n: None)

    jobs = task.delay_many(((n,) for n in range(1_201)), ids=lambda row: f"n-{row[0]}")

    assert [job.id for job in jobs] == [f"n-{n}" for n in range(1_201)]
    assert jobs[700].info()["arguments"] == "700"


def test_delay_many_with_ids_adds_what_is_missing(app):
    task = app.task(name="t")(lambda n: None)
    task.delay_many([(1,), (2,)], ids=stable("v1"))

    task.delay_many([(1,), (2,), (3,)], ids=stable("v1"))

    assert len(list(app.jobs())) == 3


def test_delay_many_names_the_row_that_does_not_fit(app):
    task = app.task(name="t")(lambda n: None)

    with pytest.raises(TypeError, match="row 1: t"):
        task.delay_many([(1,), (1, 2)])
    with pytest.raises(TypeError, match=r"row 0 is int, not a tuple of arguments; write \(value,\)"):
        task.delay_many([1])
    assert not list(app.jobs())


def test_adelay_enqueues_from_a_coroutine(app):
    task = app.task(name="t")(lambda n: None)

    job = asyncio.run(task.adelay(1))

    assert job.state == "ready"


def test_a_batch_is_enqueued_when_it_is_left(app):
    task = app.task(name="t", unique="args")(lambda n: None)

    with app.batch():
        first = task.delay(1)
        again = task.delay(1)
        app.queue("q").send("hello")
        assert not list(app.jobs())

    assert first.id == again.id
    assert len(list(app.jobs())) == 2


def test_a_batch_that_raises_enqueues_nothing(app):
    task = app.task(name="t")(lambda n: None)

    def change_my_mind() -> None:
        with app.batch():
            jobs.append(task.delay(1))
            raise ValueError("changed my mind")

    jobs = []
    with pytest.raises(ValueError, match="changed my mind"):
        change_my_mind()

    with pytest.raises(JobNotFound):
        jobs[0].info()
    assert not list(app.jobs())


def test_a_batch_of_more_than_a_thousand_is_refused_whole(app):
    task = app.task(name="t")(lambda n: None)

    with pytest.raises(UsageError, match="up to 1,000"), app.batch():
        task.delay_many((n,) for n in range(1_001))

    assert not list(app.jobs())


def test_a_batch_inside_a_batch_is_refused(app):
    with app.batch(), pytest.raises(UsageError, match="inside"), app.batch():
        ...


# --- plain functions ------------------------------------------------------------------------------
def add(a: int, b: int) -> int:
    return a + b


def test_a_plain_function_is_enqueued_by_its_name(app):
    job = app.enqueue(add, 1, b=2)

    assert record_of(app, job.id).task == f"{__name__}.add"
    assert app.resolve(f"{__name__}.add").function is add
    assert f"{__name__}.add" in app.runnable_tasks()


def test_a_task_can_be_enqueued_like_a_function(app):
    task = app.task(name="t")(add)

    assert record_of(app, app.enqueue(task, 1, 2).id).task == "t"


def test_functions_that_no_worker_could_import_are_refused(app):
    def inner(): ...

    for function, sentence in [
        (lambda: 1, "is a lambda"),
        (inner, "is a function inside a function"),
        (print, "is no plain function"),
    ]:
        with pytest.raises(UsageError, match=sentence):
            app.enqueue(function)


def test_functions_outside_the_listed_packages_are_refused_and_not_resolved(app):
    with pytest.raises(UsageError, match=r'lies outside .*; add functions_from=\["textwrap"\]'):
        app.enqueue(__import__("textwrap").dedent, "x")

    assert app.resolve("os.system") is None
    assert app.resolve("textwrap.dedent") is None


def test_listed_packages_are_searched():
    app = Cicely("tests", functions_from=["textwrap"])

    assert app.resolve("textwrap.dedent").function("  x") == "x"
    assert app.resolve("textwrap.re") is None


# --- retrying as in Celery ------------------------------------------------------------------------
def test_manifest_says_what_a_supervisor_needs():
    app = Cicely("tests", "memory://")
    app.queue("first", priority=10)
    app.task(name="t", queue="q", retry=Retry())(lambda: None)

    manifest = app.manifest()

    assert manifest["queues"] == [["first"], ["default", "q"]]
    assert manifest["tasks"] == {"t": "sync"}
    assert manifest["url"] == "memory://"
