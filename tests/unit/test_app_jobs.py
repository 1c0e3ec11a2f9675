"""Handles: waiting for a job, its value, its end; and steering jobs one by one or by a filter."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest

from cicely import (
    Cicely,
    ConfigError,
    EngineUnavailable,
    Filter,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    ResultGone,
    State,
)
from cicely.core.job import Kind
from cicely.core.outcome import ErrorRecord, Failed, Succeeded
from cicely.engines.contract import Ask, Demand, Session
from cicely.engines.memory import MemoryEngine
from cicely.errors import UnknownQueue
from cicely.patience import patiently


@pytest.fixture
def app(clock) -> Iterator[Cicely]:
    app = Cicely("tests")
    app.use(MemoryEngine(now=clock.now))
    yield app
    app.close()


def claim(app: Cicely):
    app.engine.join(Session(id="s", worker="s", tasks=frozenset(app.runnable_tasks())))
    ask = Ask(kinds=(Kind.SYNC, Kind.ASYNC, Kind.ISOLATED), slots=1)
    [claim] = app.engine.claim("s", Demand(os.urandom(8), ("default",), (ask,))).claims
    return claim


def succeed(app: Cicely, value: object) -> None:
    held = claim(app)
    data = app.values(app.engine).pack_result(held.job_id, value, where="result")
    app.engine.settle("s", [Succeeded(held.token, data)])


def fail(app: Cicely, error: ErrorRecord) -> None:
    app.engine.settle("s", [Failed(claim(app).token, "error", error.encoded())])


@dataclass
class Score:
    value: float


# --- values ---------------------------------------------------------------------------------------
def test_get_returns_the_value_as_the_annotated_type(app):
    @app.task(name="t")
    def t() -> Score: ...

    job = t.delay()
    succeed(app, {"value": 1.5})

    assert job.get(timeout=1) == Score(1.5)
    assert job.result == Score(1.5)


def test_a_value_that_does_not_fit_its_annotation_comes_as_it_was_stored(app):
    @app.task(name="t")
    def t() -> int: ...

    job = t.delay()
    succeed(app, "seven")

    assert job.get() == "seven"


def test_get_waits_until_another_thread_has_settled(app):
    job = app.task(name="t")(lambda: None).delay()
    threading.Timer(0.05, succeed, (app, 7)).start()
    began = time.monotonic()

    assert job.get(timeout=10) == 7
    assert time.monotonic() - began < 0.9, "the bell was not heard, only the next look"


def test_coroutines_that_wait_for_many_jobs_share_one_bell(app):
    jobs = app.task(name="t")(lambda _: None).delay_many([(k,) for k in range(300)])
    bells = app.engine._bells
    most = 0

    async def cancel_all() -> None:
        nonlocal most
        for k, job in enumerate(jobs):
            await asyncio.sleep(0.2 if k == 0 else 0)
            most = max(most, len(bells))
            await asyncio.to_thread(app.engine.steer, "cancel", [job.id])

    async def gather() -> list[object]:
        waits = [job.aget(timeout=10) for job in jobs]
        return await asyncio.gather(*waits, cancel_all(), return_exceptions=True)

    ends = asyncio.run(gather())

    assert [type(end) for end in ends[:-1]] == [JobCancelled] * 300
    assert (most, len(bells)) == (1, 0)


def test_a_coroutine_that_comes_later_is_served_too(app):
    first, second = app.task(name="t")(lambda _: None).delay_many([(1,), (2,)])

    async def late() -> None:
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(second.aget(timeout=10))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(app.engine.steer, "cancel", [second.id])
        with pytest.raises(JobCancelled):
            await waiting
        await asyncio.to_thread(app.engine.steer, "cancel", [first.id])

    async def both() -> None:
        with pytest.raises(JobCancelled):
            await asyncio.gather(first.aget(timeout=10), late())

    asyncio.run(both())


def test_aget_waits_without_blocking_the_loop(app):
    job = app.task(name="t")(lambda: None).delay()

    async def both() -> object:
        asyncio.get_running_loop().call_later(0.05, succeed, app, 7)
        return await job.aget(timeout=10)

    assert asyncio.run(both()) == 7


def test_get_gives_up_after_its_timeout_and_the_job_goes_on(app):
    job = app.task(name="t")(lambda: None).delay()

    with pytest.raises(TimeoutError, match=r"is ready after 0.01 s; it goes on"):
        job.get(timeout=0.01)
    with pytest.raises(TimeoutError):
        asyncio.run(job.aget(timeout=0.01))
    assert job.state is State.READY
    assert job.result is None


def test_get_raises_what_the_last_attempt_said(app):
    job = app.task(name="t")(lambda: None).delay()
    fail(app, ErrorRecord("KeyError", "'x'", "Traceback: line 3", "builtins"))

    with pytest.raises(JobFailed) as failure:
        job.get()

    assert (failure.value.type_name, failure.value.message) == ("KeyError", "'x'")
    assert "line 3" in str(failure.value)
    assert failure.value.__cause__ is None
    assert job.error.type_name == "KeyError"
    assert job.result is None


@pytest.mark.parametrize(
    "original", [OSError("no route"), KeyError("x"), KeyError(7, "y"), KeyError(("a", 1))], ids=repr
)
def test_the_original_exception_is_the_cause_where_the_task_lists_its_class(app, original):
    job = app.task(name="t", raises=(OSError, KeyError))(lambda: None).delay()
    fail(app, ErrorRecord(type(original).__name__, str(original), "", "builtins"))

    with pytest.raises(JobFailed) as failure:
        job.get()

    cause = failure.value.__cause__
    assert type(cause) is type(original)
    assert str(cause) == str(original)


def test_any_text_may_be_the_reason_of_a_cancellation(app):
    one, other = (app.task(name=name)(lambda: None).delay() for name in ("t", "u"))

    assert one.cancel("\ud800")
    assert app.cancel(other.id, reason="\ud800") == 1

    assert [record.reason for record in app.engine.get([one.id, other.id])] == ["\\ud800"] * 2


def test_a_cancelled_job_names_the_cause(app):
    job = app.task(name="t")(lambda: None).delay()

    assert job.cancel("superseded")
    assert not job.cancel()
    with pytest.raises(JobCancelled, match="superseded"):
        job.get()


def test_an_expired_job_says_so(app, clock):
    job = app.task(name="t")(lambda: None).apply_async(expires=60)
    clock.at += 61
    app.engine.sweep(10)

    with pytest.raises(JobExpired):
        job.get()


def test_a_result_is_gone_after_its_retention(app, clock):
    job = app.task(name="t", keep="1h")(lambda: None).options(id="known").delay()
    succeed(app, 1)
    clock.at += 3601
    app.engine.sweep(10)

    with pytest.raises(ResultGone, match="swept"):
        job.get()
    assert job.result is None


def test_an_unknown_job_is_not_found(app):
    with pytest.raises(JobNotFound, match="no job has the id nothing"):
        app.job("nothing")


def test_info_can_be_written_as_json(app):
    import msgspec

    job = app.task(name="t")(lambda *a, **k: None).delay({1, 2}, k="v")
    fail(app, ErrorRecord("KeyError", "x", "tb", "builtins"))

    info = app.job(job.id).info()

    assert info["state"] == "failed"
    assert info["error"]["message"] == "x"
    assert info["attempts"][0]["error"]["traceback"] == "tb"
    assert info["arguments"] == "{1, 2}, k='v'"
    assert msgspec.json.encode(info)


# --- searching and steering -----------------------------------------------------------------------
@pytest.mark.parametrize("value", ["1h", "yesterday", True, float("nan"), datetime(2030, 1, 1)])
@pytest.mark.parametrize("option", ["since", "until"])
def test_a_time_that_cannot_be_read_is_refused_with_one_that_can(app, option, value):
    with pytest.raises(ConfigError, match=rf"^{option}=.*: a datetime with a time zone, .* or Unix seconds$"):
        list(app.jobs(**{option: value}))


def test_jobs_are_found_by_state_task_queue_tag_and_time(app, clock):
    app.queue("other")
    one = app.task(name="one", tags=["x"])(lambda: None)
    two = app.task(name="two", queue="other")(lambda: None)
    first = one.delay()
    clock.at += 100
    second = two.apply_async(countdown=60)

    def ids(**where: object) -> list[str]:
        return [job.id for job in app.jobs(**where)]

    assert ids() == [second.id, first.id]
    assert ids(limit=1) == [second.id]
    assert ids(state="scheduled") == [second.id]
    assert ids(state=["ready", State.SCHEDULED], task="one") == [first.id]
    assert ids(queue="other") == [second.id]
    assert ids(tag="x") == [first.id]
    assert ids(since=clock.at - 1) == [second.id]
    assert ids(until=clock.at - 1) == [first.id]


def test_an_unknown_state_is_refused(app):
    with pytest.raises(ConfigError, match=r"state='done': one of scheduled, waiting, ready"):
        list(app.jobs(state="done"))
    with pytest.raises(ConfigError, match="state=5: one of scheduled"):
        list(app.jobs(state=5))


def test_a_reason_that_is_no_text_is_kept_as_one(app):
    job = app.task(name="t")(lambda: None).delay()

    assert job.cancel(reason=5)
    assert job.info()["reason"] == "5"


def test_a_search_that_cannot_be_is_refused(app):
    with pytest.raises(ConfigError, match="limit='5': a whole number"):
        list(app.jobs(limit="5"))
    with pytest.raises(ConfigError, match=r"cancel\(5\): the id of a job, or a Filter"):
        app.cancel(5)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/jobs.db"])
def test_text_that_no_engine_can_hold_finds_nothing(tmp_path, url):
    app = Cicely("jobs", url.format(tmp_path))

    with pytest.raises(JobNotFound):
        app.job("\ud800")
    with pytest.raises(JobNotFound):
        app.cancel("\ud800")
    assert list(app.jobs(tag="\ud800", task="\ud800", queue="\ud800", workflow="\ud800")) == []
    app.close()


def test_many_jobs_are_steered_page_by_page(app):
    app.task(name="t")(lambda n: None).delay_many((n,) for n in range(1_100))

    assert app.cancel(Filter(task="t"), reason="enough") == 1_100
    assert app.revive(Filter(states=(State.CANCELLED,))) == 1_100
    assert app.purge("default") == 1_100
    assert app.discard(Filter()) == 1_100
    assert not list(app.jobs())


def test_one_job_is_steered_by_its_id(app):
    job = app.task(name="t")(lambda: None).delay()

    assert app.cancel(job.id) == 1
    assert app.revive(job.id) == 1
    assert app.discard(job.id) == 0
    with pytest.raises(JobNotFound):
        app.cancel("nothing")


def test_a_failed_job_is_revived_with_its_tallies_at_nought(app):
    job = app.task(name="t")(lambda: None).delay()
    fail(app, ErrorRecord("KeyError", "x"))

    assert job.revive()
    succeed(app, 3)

    assert job.get() == 3


def test_a_paused_queue_hands_out_nothing(app):
    app.task(name="t")(lambda: None).delay()

    app.pause_queue("default")
    with pytest.raises(ValueError, match="not enough values"):
        claim(app)
    app.resume_queue("default")

    assert claim(app).task == "t"


def test_explaining_what_is_no_job_says_that_there_is_none(app):
    with pytest.raises(JobNotFound, match="no job has the id 5"):
        app.explain(5)


def test_queues_that_the_app_declares_are_paused_before_their_first_job(app):
    app.queue("declared")
    app.route({"gpu_*": "routed"})
    app.task(name="t", queue="named")(lambda: None)

    for queue in ("declared", "named", "routed"):
        app.pause_queue(queue)

    assert [record.name for record in app.engine.queues() if record.paused] == ["declared", "named", "routed"]


def test_pausing_an_unknown_queue_names_the_nearest(app):
    with pytest.raises(UnknownQueue, match="did you mean default"):
        app.pause_queue("defualt")


# --- engines that are away ------------------------------------------------------------------------
class Away(MemoryEngine):
    """Stores what it is sent, and loses so many of its answers."""

    def __init__(self, answers_lost: int) -> None:
        super().__init__()
        self.answers_lost = answers_lost

    def enqueue(self, jobs):
        answers = super().enqueue(jobs)
        if self.answers_lost:
            self.answers_lost -= 1
            raise EngineUnavailable("away")
        return answers


def test_delay_repeats_the_same_job_until_the_engine_answers():
    app = Cicely("tests")
    app.use(Away(answers_lost=2))

    job = app.task(name="t")(lambda: None).delay()

    assert [found.id for found in app.jobs()] == [job.id]


class Slow(MemoryEngine):
    """Gives up after as long as a caller is patient, as an engine does whose lock is not free."""

    calls = 0

    def enqueue(self, jobs):
        self.calls += 1
        time.sleep(0.3)
        raise EngineUnavailable("away")


def test_delay_is_no_more_patient_than_its_callers(monkeypatch):
    monkeypatch.setattr("cicely.connection.PATIENCE_S", 0.3)
    app = Cicely("tests")
    app.use(Slow())

    with pytest.raises(EngineUnavailable):
        app.task(name="t")(lambda: None).delay()

    assert app.engine.calls == 1


def test_patience_ends():
    calls = []

    def never() -> None:
        calls.append(1)
        raise EngineUnavailable("away")

    with pytest.raises(EngineUnavailable):
        patiently(never, for_s=0.2)
    assert len(calls) == 3
