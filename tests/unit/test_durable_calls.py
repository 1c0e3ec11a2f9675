"""A job may call other jobs, go on as a workflow that it returns, and add to the group it is in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cicely import Cicely, JobCancelled, JobFailed, Retry, chain, chord, current, group
from cicely.testing import Inline, inline

app = Cicely("durable_calls", url="memory://")
calls: list[str] = []
broken: set[str] = set()


@app.task
def double(n: int) -> int:
    calls.append(f"double {n}")
    if f"double {n}" in broken:
        raise ValueError(f"no double of {n}")
    return 2 * n


@app.task
def total(numbers: list[int]) -> int:
    calls.append("total")
    return sum(numbers)


@app.task
def calls_one(n: int) -> list[int]:
    ctx = current()
    first = ctx.call(double.s(n))
    second = ctx.call(double.s(first))
    return [first, second]


@app.task
def calls_a_group(count: int) -> int:
    values: list[int] = current().call(group(double.s(n) for n in range(count)))
    return sum(values)


@app.task
def catches(n: int) -> str:
    try:
        current().call(double.s(n))
    except JobFailed as failure:
        return f"{failure.type_name}: {failure.message}"
    return "fine"


@app.task(retry=Retry(on=Exception, attempts=3, backoff=1))
def becomes(n: int) -> object:
    calls.append("becomes")
    return chain(double.s(n), double.s())


@app.task
def becomes_a_group(count: int) -> object:
    return group(double.s(n) for n in range(count))


@app.task
async def becomes_later(n: int) -> object:
    return chord([double.s(n), double.s(n)], total.s())


@app.task
def adds(n: int) -> int:
    ctx = current()
    if n < 3:
        ctx.add_to_group(adds.s(n + 1))
    if n == 2 and ctx.fence == 1:
        ctx.sleep(10)
    return n


@app.task
def calls_nobody() -> None:
    current().call(app.signature({"task": "nobody.knows"}))


@pytest.fixture
def world() -> Iterator[Inline]:
    calls.clear()
    broken.clear()
    with inline(app) as world:
        yield world


def test_a_job_calls_others_one_after_the_other(world: Inline) -> None:
    job = calls_one.delay(3)
    world.run()

    assert job.get() == [6, 12]
    assert calls == ["double 3", "double 6"]
    assert job.attempt == 1


def test_a_job_calls_a_group_and_gets_its_list(world: Inline) -> None:
    job = calls_a_group.delay(5)
    world.run()

    assert job.get() == 20


def test_a_job_calls_hundreds(world: Inline) -> None:
    job = calls_a_group.delay(400)
    world.run()

    assert job.get() == 400 * 399
    assert len(calls) == 400


def test_a_failure_of_what_was_called_is_raised_and_may_be_caught(world: Inline) -> None:
    broken.add("double 3")
    job = catches.delay(3)
    world.run()

    assert job.get() == "ValueError: no double of 3"


def test_a_failure_that_is_not_caught_fails_the_caller(world: Inline) -> None:
    broken.add("double 6")
    job = calls_one.delay(3)
    world.run()

    with pytest.raises(JobFailed, match="no double of 6"):
        job.get()


def test_reviving_what_was_called_revives_its_caller(world: Inline) -> None:
    broken.add("double 6")
    job = calls_one.delay(3)
    world.run()
    broken.clear()
    [failed] = [one for one in app.jobs(state="failed") if one.id != job.id]

    failed.revive()
    world.run()

    assert job.get() == [6, 12]
    assert calls == ["double 3", "double 6", "double 6"]


def test_a_job_goes_on_as_the_workflow_that_it_returns(world: Inline) -> None:
    job = becomes.delay(3)
    world.run()

    assert job.get() == 12
    assert calls == ["becomes", "double 3", "double 6"]


def test_a_job_goes_on_as_a_group(world: Inline) -> None:
    job = becomes_a_group.delay(3)
    world.run()

    assert job.get() == [0, 2, 4]


def test_a_coroutine_goes_on_as_a_chord(world: Inline) -> None:
    job = becomes_later.delay(4)
    world.run()

    assert job.get() == 16


def test_a_job_fails_as_the_workflow_that_it_returned_and_is_not_retried(world: Inline) -> None:
    broken.add("double 6")
    job = becomes.delay(3)
    world.run()
    world.advance(60)

    with pytest.raises(JobFailed, match="ValueError: no double of 6"):
        job.get()
    assert calls == ["becomes", "double 3", "double 6"]


def test_reviving_the_failed_part_goes_on_from_there(world: Inline) -> None:
    broken.add("double 6")
    job = becomes.delay(3)
    world.run()
    broken.clear()
    [failed] = [one for one in app.jobs(state="failed") if one.id != job.id]

    failed.revive()
    world.run()

    assert job.get() == 12
    assert calls == ["becomes", "double 3", "double 6", "double 6"]


@pytest.mark.parametrize("count", [5, 300])
def test_reviving_the_job_itself_revives_what_failed_in_it(world: Inline, count: int) -> None:
    broken.update({"double 3", "double 4"})
    job = becomes_a_group.delay(count)
    world.run()
    broken.clear()

    assert job.revive()
    world.run()

    assert job.get() == [2 * n for n in range(count)]
    assert calls.count("double 3") == calls.count("double 4") == 2
    assert calls.count("double 0") == 1


def test_reviving_a_caller_revives_what_it_called(world: Inline) -> None:
    broken.add("double 6")
    job = calls_one.delay(3)
    world.run()
    broken.clear()

    assert app.revive(job.id) == 1
    world.run()

    assert job.get() == [6, 12]


def test_reviving_a_finaliser_that_failed_leaves_what_failed_before_it(world: Inline) -> None:
    broken.update({"double 1", "double 2"})
    flow = app.flow()
    first = flow.add(double.s(1))
    last = flow.add(double.si(2), after=first, on="done")
    run = flow.delay()
    world.run()

    run[last].revive()
    world.run()

    assert calls == ["double 1", "double 2", "double 2"]


def test_a_job_ends_cancelled_where_its_workflow_was(world: Inline) -> None:
    job = becomes.options(id="whole").delay(3)
    while "becomes" not in calls:
        claim = world._claim()
        assert claim is not None
        world._run(claim)
    [first] = app.jobs(state="ready")

    first.cancel("no longer wanted")
    world.run()

    with pytest.raises(JobCancelled):
        job.get()


def test_a_member_adds_to_its_group_and_the_body_waits_for_it(world: Inline) -> None:
    job = chord([adds.s(0)], total.s()).delay()
    world.run()
    assert job.state == "waiting"
    world.advance(10)

    assert job.get() == 0 + 1 + 2 + 3
    assert calls == ["total"]


def test_a_call_of_an_unknown_task_is_refused_where_it_is_made(world: Inline) -> None:
    job = calls_nobody.delay()
    world.run()

    with pytest.raises(JobFailed, match=r"UnknownTask: .*nobody\.knows"):
        job.get()
