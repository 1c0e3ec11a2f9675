"""A job with durable steps lets go of its slot, and goes on from the top with what it recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from cicely import Cicely, JobFailed, NotStorable, Retry, current
from cicely.testing import Inline, inline

app = Cicely("durable", url="memory://")
calls: list[str] = []


def note(name: str) -> str:
    calls.append(name)
    return f"value of {name}"


@app.task(retry=Retry(on=RuntimeError, attempts=3, backoff=10))
def fails_between_steps() -> list[str]:
    ctx = current()
    values = [ctx.step("first", note, "first")]
    if ctx.attempt == 1:
        raise RuntimeError("between")
    values.append(ctx.step("second", note, "second"))
    return values


@app.task
def sleeps() -> str:
    ctx = current()
    first = ctx.step("before", note, "before")
    ctx.sleep("1h")
    ctx.step("after", note, "after")
    return first


@app.task
def waits(timeout: float | None) -> object:
    return current().wait_for("approval", timeout=timeout)


@app.task
async def walks() -> list[str]:
    ctx = current()

    async def slow() -> str:
        await asyncio.sleep(0)
        return note("slow")

    async def fast() -> str:
        return note("fast")

    values = list(await asyncio.gather(ctx.step("slow", slow), ctx.step("fast", fast)))
    ctx.sleep(60)
    return values


@app.task
def keeps_its_keys() -> list[str]:
    ctx = current()
    keys = [
        ctx.step_key,
        ctx.step("a", lambda: current().step_key),
        ctx.step("a", lambda: current().step_key),
    ]
    if ctx.fence == 1:
        ctx.sleep(1)
    return keys


@app.task
def nests() -> None:
    ctx = current()
    ctx.step("outer", lambda: ctx.step("inner", note, "inner"))


@app.task
def swallows() -> str:
    try:
        current().sleep(60)
    except BaseException:  # noqa: BLE001  (what a tired programmer writes)
        return "too early"
    return "slept"


@app.task
def records_a_socket() -> None:
    current().step("socket", object)


mode = {"code": "old"}


@app.task
def changes() -> str:
    ctx = current()
    ctx.step("download" if mode["code"] == "old" else "fetch", note, "download")
    ctx.sleep(60)
    return "done"


@pytest.fixture
def world() -> Iterator[Inline]:
    calls.clear()
    mode["code"] = "old"
    with inline(app) as world:
        yield world


def test_a_recorded_step_is_not_repeated_by_the_next_attempt(world: Inline) -> None:
    job = fails_between_steps.delay()
    world.run()
    world.advance(10)

    assert job.get() == ["value of first", "value of second"]
    assert calls == ["first", "second"]


def test_a_sleeping_job_goes_on_when_the_time_has_passed(world: Inline) -> None:
    job = sleeps.delay()
    world.run()
    assert (job.state, calls) == ("scheduled", ["before"])
    assert "sleeps for 3600 s" in job.info()["reason"]

    world.advance(3_599)
    assert job.state == "scheduled"
    world.advance(1)

    assert job.get() == "value of before"
    assert calls == ["before", "after"]
    assert job.attempt == 1


def test_a_job_waits_for_an_event(world: Inline) -> None:
    job = waits.delay(None)
    world.run()
    assert job.state == "waiting"

    app.send_event("approval", {"by": "ann"}, key=job.id)
    world.run()

    assert job.get() == {"by": "ann"}


def test_an_event_sent_early_is_kept(world: Inline) -> None:
    job = waits.delay(None)
    app.send_event("approval", "early", key=job.id)
    world.run()

    assert job.get() == "early"


def test_a_wait_may_time_out(world: Inline) -> None:
    job = waits.delay(30.0)
    world.run()
    world.advance(30)

    with pytest.raises(JobFailed, match=r"TimeoutError.*'approval'.*30 s"):
        job.get()


def test_an_event_after_the_timeout_changes_nothing(world: Inline) -> None:
    job = waits.delay(30.0)
    world.run()
    world.advance(30)
    app.send_event("approval", "late", key=job.id)
    job.revive()
    world.run()

    assert job.state == "failed"


def test_a_wait_that_was_cancelled_and_revived_waits_again(world: Inline) -> None:
    job = waits.delay(None)
    world.run()
    job.cancel()
    job.revive()
    world.run()
    assert job.state == "waiting"

    app.send_event("approval", "at last", key=job.id)
    world.run()

    assert job.get() == "at last"


def test_coroutine_steps_may_run_beside_each_other(world: Inline) -> None:
    job = walks.delay()
    world.run()
    world.advance(60)

    assert job.get() == ["value of slow", "value of fast"]
    assert sorted(calls) == ["fast", "slow"]


def test_the_key_of_a_step_is_the_same_in_every_attempt_and_unlike_others(world: Inline) -> None:
    job = keeps_its_keys.delay()
    world.run()
    world.advance(1)

    assert job.get() == ["", f"{job.id}:step:a:0", f"{job.id}:step:a:1"]


def test_steps_do_not_nest(world: Inline) -> None:
    job = nests.delay()
    world.run()

    with pytest.raises(JobFailed, match="steps do not nest"):
        job.get()


def test_a_wait_that_the_code_catches_holds_all_the_same(world: Inline) -> None:
    job = swallows.delay()
    world.run()
    assert job.state == "scheduled"
    world.advance(60)

    assert job.get() == "slept"


def test_a_value_that_cannot_be_kept_fails_the_step_and_says_which(world: Inline) -> None:
    job = records_a_socket.delay()
    world.run()

    with pytest.raises(JobFailed, match=f"{NotStorable.__name__}.*step:socket:0"):
        job.get()


def test_code_that_changed_meanwhile_is_told_which_step_differs(world: Inline) -> None:
    job = changes.delay()
    world.run()
    mode["code"] = "new"
    world.advance(60)

    with pytest.raises(JobFailed, match=r"StepMismatch.*step:download:0.*step:fetch:0"):
        job.get()
    assert calls == ["download"]
