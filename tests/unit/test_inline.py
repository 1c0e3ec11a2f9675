"""Jobs in a test's own process and in virtual time."""

from __future__ import annotations

import asyncio

import pytest

import cicely.testing
from cicely import (
    Cicely,
    JobExpired,
    JobFailed,
    Retry,
    UsageError,
    WouldDeadlock,
    current,
)
from cicely.testing import inline

pytest_plugins = ["cicely.testing.plugin"]


@pytest.fixture
def app() -> Cicely:
    return Cicely("tests")


def test_a_job_is_run_by_whoever_waits_for_it(app):
    @app.task(name="double")
    def double(x: int) -> int:
        return 2 * x

    with cicely.testing.inline(app):
        assert double.delay(4).get() == 8


def test_jobs_run_when_the_test_says_so(app):
    calls = []
    task = app.task(name="t")(calls.append)

    with inline(app) as world:
        task.delay_many([(1,), (2,)])
        assert calls == []
        assert world.run() == 2
    assert calls == [1, 2]


def test_a_retry_waits_exactly_sixty_then_twice_then_four_times_that(app):
    @app.task(name="call", retry=Retry(on=ConnectionError, attempts=4, backoff=60))
    def call() -> None:
        raise ConnectionError("refused")

    with inline(app) as world:
        job = call.delay()
        world.advance("1h")

        assert world.waits(job.id) == [60, 120, 240]
        assert [ran.ended for ran in world.ran] == ["error"] * 4
        with pytest.raises(JobFailed, match="ConnectionError: refused"):
            job.get()


def test_between_its_attempts_a_job_is_scheduled(app):
    task = app.task(name="t", retry=Retry(backoff=60))(lambda: 1 / 0)

    with inline(app) as world:
        job = task.delay()
        world.advance(59)

        assert (job.state, job.attempt) == ("scheduled", 1)
        assert job.error.type_name == "ZeroDivisionError"
        world.advance(1)
        assert job.attempt == 2


def test_waiting_for_what_is_due_later_says_how_to_get_there(app):
    task = app.task(name="t")(lambda: 1)

    with inline(app) as world:
        job = task.options(countdown=90).delay()

        with pytest.raises(UsageError, match=r"is scheduled, due in 90 s.*call advance\(seconds\) first"):
            job.get()
        world.advance(90)
        assert job.get() == 1


def test_without_a_retry_an_exception_fails_the_job(app):
    with inline(app) as world:
        job = app.task(name="t")(lambda: 1 / 0).delay()
        world.advance("1d")

        assert (job.state, len(world.ran)) == ("failed", 1)


def test_a_bound_task_retries_as_in_celery(app):
    @app.task(name="t", bind=True)
    def task(self, n: int) -> None:
        raise self.retry(exc=ValueError(n))

    with inline(app) as world:
        job = task.delay(3)
        world.advance("1h")

        assert world.waits(job.id) == [180, 180, 180]
        with pytest.raises(JobFailed, match="ValueError: 3"):
            job.get()


def test_a_bound_task_says_how_long_to_wait(app):
    @app.task(name="t", bind=True, retry=Retry(attempts=2, backoff=60))
    def task(self) -> int:
        if current().attempt == 1:
            self.retry(countdown=5)
        return current().attempt

    with inline(app) as world:
        job = task.delay()
        world.advance(10)

        assert world.waits(job.id) == [5]
        assert job.get() == 2


def test_a_job_that_does_not_start_in_time_expires(app):
    with inline(app) as world:
        world.engine.pause("default")
        job = app.task(name="t")(lambda: 1).apply_async(expires=60)
        world.advance(61)

        with pytest.raises(JobExpired):
            job.get()


def test_coroutines_run_too_also_inside_a_running_loop(app):
    @app.task(name="t")
    async def task(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    async def inside() -> int:
        job = await task.adelay(2)
        return task.delay(1).get() + await job.aget()

    with inline(app):
        assert task.delay(1).get() == 2
        assert asyncio.run(inside()) == 5


def test_arguments_arrive_as_their_hints_say(app):
    @app.task(name="t")
    def task(when: float, *words: str) -> str:
        return f"{when!r} {words}"

    with inline(app):
        assert task.delay(1, "a").get() == "1.0 ('a',)"
        with pytest.raises(JobFailed, match="argument 'when' of t"):
            task.delay("soon").get()


def test_progress_and_checkpoints_are_kept_between_attempts(app):
    @app.task(name="t", retry=Retry(backoff=1))
    def task() -> list[int]:
        done = current().restored or []
        current().progress(len(done) + 1, 3, "step")
        done = [*done, current().attempt]
        current().checkpoint(done)
        if len(done) < 3:
            raise ConnectionError
        return done

    with inline(app) as world:
        job = task.delay()
        world.advance(10)

        assert job.get() == [1, 2, 3]
        assert (job.progress.done, job.progress.total, job.progress.message) == (3, 3, "step")


def test_a_running_job_may_enqueue_and_may_not_wait(app):
    leaf = app.task(name="leaf")(lambda: 1)

    @app.task(name="root", raises=WouldDeadlock)
    def root(*, allow: bool) -> int:
        return leaf.delay().get(allow_blocking=allow)

    with inline(app):
        assert root.delay(allow=True).get() == 1
        with pytest.raises(JobFailed, match="may hold the slot that it needs") as failure:
            root.delay(allow=False).get()
        assert isinstance(failure.value.__cause__, WouldDeadlock)


def test_a_job_that_enqueues_itself_for_ever_is_stopped(app):
    @app.task(name="t")
    def task() -> None:
        task.delay()

    with inline(app) as world:
        task.delay()
        with pytest.raises(UsageError, match="20 attempts at one instant, the last of t"):
            world.run(limit=20)


def test_plain_functions_run_too(app):
    with inline(app):
        assert app.enqueue(len_of, "abc").get() == 3


def len_of(text: str) -> int:
    return len(text)


def test_queues_are_served_by_their_priority(app):
    order = []
    app.queue("high", priority=10)
    task = app.task(name="t")(order.append)

    with inline(app) as world:
        task.delay("low")
        task.options(queue="high").delay("high")
        world.run()

    assert order == ["high", "low"]


def test_the_app_is_what_it_was_afterwards(app):
    with inline(app) as outer:
        with inline(app) as inner:
            assert app.engine is inner.engine
        assert app.engine is outer.engine


def test_the_fixture_holds_for_one_test(app, cicely_inline):
    world = cicely_inline(app)

    job = app.task(name="t")(lambda: 1).delay()

    assert world.run() == 1
    assert job.get() == 1
