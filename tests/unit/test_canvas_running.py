"""Canvases as a user writes them, run in this process: Celery's names, and what they mean here."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pytest

from cicely import (
    Cicely,
    GroupJob,
    JobCancelled,
    JobFailed,
    JobNotFound,
    NotStorable,
    Retry,
    State,
    UsageError,
    chain,
    chord,
    current,
    group,
    stable,
)
from cicely.errors import ConfigError, UnknownTask
from cicely.testing import inline


@dataclass
class Point:
    x: int


class Shop:
    """An app with the tasks of Celery's documentation, and a few that fail."""

    def __init__(self):
        self.app = Cicely("tests")
        self.told = []
        self.ran = []
        self.is_broken = True
        app = self.app

        @app.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        @app.task(name="mul")
        def mul(x: int, y: int) -> int:
            return x * y

        @app.task(name="xsum")
        def xsum(numbers: list[int]) -> int:
            return sum(numbers)

        @app.task(name="same")
        def same(value):
            self.ran.append(value)
            return value

        @app.task(name="fail")
        def fail(*_args):
            if self.is_broken:
                raise ValueError("no such row")
            return "mended"

        @app.task(name="tell")
        def tell(job_id: str, error: str, traceback: str) -> None:
            self.told.append((job_id, error, traceback))

        @app.task(name="tell_id")
        def tell_id(job_id: str) -> None:
            self.told.append(job_id)

        @app.task(name="slow")
        async def slow(x: int) -> int:
            return -x

        self.add, self.mul, self.xsum, self.same, self.fail = add, mul, xsum, same, fail
        self.tell, self.tell_id, self.slow = tell, tell_id, slow


@pytest.fixture
def shop():
    shop = Shop()
    with inline(shop.app) as world:
        shop.world = world
        yield shop


# --- Celery's documentation ---------------------------------------------------------------------


def test_a_signature_is_enqueued_with_its_arguments(shop):
    assert shop.add.s(2, 2).delay().get() == 4
    assert shop.add.s(2, 2).apply_async(countdown=0).get() == 4
    assert shop.add.signature((2, 2), priority=3).delay().get() == 4


def test_arguments_that_are_added_come_first_and_named_ones_win(shop):
    @shop.app.task(name="show")
    def show(*args, **kwargs):
        return [list(args), kwargs]

    partial = show.s(2, 3, debug=False)

    assert partial.delay(1, debug=True).get() == [[1, 2, 3], {"debug": True}]
    assert partial.clone((0,)).delay().get() == [[0, 2, 3], {"debug": False}]


def test_calling_a_signature_runs_the_function_here(shop):
    assert shop.add.s(2)(5) == 7
    assert shop.world.ran == []


def test_a_tilde_enqueues_and_waits(shop):
    assert ~(shop.add.s(2, 2) | shop.mul.s(16)) == 64


def test_an_immutable_signature_takes_no_more(shop):
    with pytest.raises(TypeError, match="immutable"):
        shop.add.si(2, 2).delay(4)
    assert (shop.add.si(2, 2) | shop.add.si(4, 4) | shop.mul.s(8)).delay().get() == 64


def test_a_chain_passes_results_on_and_its_handle_knows_its_parents(shop):
    job = chain(shop.add.s(4, 4), shop.mul.s(8), shop.mul.s(10))()

    assert job.get() == 640
    assert job.parent.get() == 64
    assert job.parent.parent.get() == 8
    assert job.parent.parent.parent is None


def test_chains_are_partial_too(shop):
    c1 = shop.add.s(4) | shop.mul.s(8)

    assert c1(16).get() == 160
    assert (shop.add.s(4, 16) | shop.mul.s(2) | c1).delay().get() == 352


def test_a_group_has_a_list_of_results(shop):
    jobs = group(shop.add.s(i, i) for i in range(10))()

    assert jobs.get() == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert jobs.join() == jobs.get()
    assert [job.get() for job in jobs] == jobs.get()


def test_a_chord_is_given_the_list(shop):
    assert chord((shop.add.s(i, i) for i in range(100)), shop.xsum.s())().get() == 9900
    assert chord(shop.add.s(i, i) for i in range(100))(shop.xsum.s()).get() == 9900


def test_the_body_of_a_chord_may_be_immutable(shop):
    assert chord([shop.add.s(1, 1), shop.add.s(2, 2)], shop.same.si("done"))().get() == "done"


def test_a_group_before_a_task_is_a_chord(shop):
    job = (group(shop.add.s(i, i) for i in range(10)) | shop.xsum.s())()

    assert job.get() == 90
    assert isinstance(job.parent, GroupJob)
    assert job.parent.get() == [2 * i for i in range(10)]


def test_the_result_before_a_group_goes_to_each_member(shop):
    job = (shop.add.s(4, 4) | group(shop.add.s(1), shop.mul.s(2), shop.add.si(0, 0))).delay()

    assert job.get() == [9, 16, 0]
    assert job.parent.get() == 8


@pytest.mark.parametrize(
    ("compose", "result"),
    [
        (lambda s: group([]) | s.same.s(), []),
        (lambda s: chord([], s.same.s()), []),
        (lambda s: s.add.s(1, 1) | group([]) | s.same.s(), []),
        (lambda s: group(s.add.s(1, 1)) | s.same.s(), 2),
        (lambda s: chord([s.add.s(1, 1)], s.same.s()), [2]),
        (lambda s: group(group(s.add.s(1, 1), s.add.s(2, 2)), s.add.s(3, 3)), [[2, 4], 6]),
        (lambda s: group(group([]), s.add.s(3, 3)) | s.same.s(), [[], 6]),
        (lambda s: group(s.add.s(1, 1), s.add.s(2, 2)) | group(s.xsum.s(), s.same.s()), [6, [2, 4]]),
        (lambda s: chord([s.add.s(1, 1), s.add.s(2, 2)], s.xsum.s()) | s.add.s(1), 7),
        (
            lambda s: chord(
                [chord([s.add.s(1, 2), s.add.s(3, 4)], s.same.s()), chord([s.add.s(6, 7)], s.same.s())],
                s.same.s(),
            ),
            [[3, 7], [13]],
        ),
        (lambda s: group(s.add.s(1, 1) | s.add.s(1), s.add.s(5, 5)) | s.xsum.s(), 13),
        (
            lambda s: s.add.si(1, 0) | group(s.add.si(1, 100), s.add.si(1, 200) | group(s.add.si(1, 1))),
            [101, [2]],
        ),
    ],
)
def test_canvases_within_canvases(shop, compose, result):
    assert compose(shop).delay().get() == result


def test_a_group_of_nothing_needs_no_engine():
    assert group([]).delay().get() == []
    assert group([]).delay().children == []


def test_map_and_starmap_are_one_job(shop):
    assert ~shop.xsum.map([range_list(10), range_list(100)]) == [45, 4950]
    assert ~shop.add.starmap(zip(range(10), range(10), strict=True)) == [2 * i for i in range(10)]
    assert len(shop.world.ran) == 2


def range_list(count):
    return list(range(count))


def test_map_runs_coroutine_functions_and_converts_each_item(shop):
    @shop.app.task(name="x_of")
    def x_of(point: Point) -> int:
        return point.x

    assert ~shop.slow.map([1, 2]) == [-1, -2]
    assert ~x_of.map([Point(1), {"x": 2}]) == [1, 2]


def test_chunks_are_a_group_of_starmaps(shop):
    job = shop.add.chunks(zip(range(25), range(25), strict=True), 10)()

    assert [len(part) for part in job.get()] == [10, 10, 5]
    assert len(shop.world.ran) == 3
    assert (shop.add.chunks([(1, 1), (2, 2)], 1) | shop.same.s()).delay().get() == [[2], [4]]


def test_a_link_comes_after_success_and_is_no_part_of_the_result(shop):
    job = shop.add.apply_async((2, 2), link=shop.same.s())

    assert job.get() == 4
    shop.world.run()
    assert shop.ran == [4]


def test_the_members_of_a_group_can_begin_one_after_the_other(shop):
    jobs = group(shop.same.s(i) for i in range(3)).skew(start=1, step=10).delay()

    shop.world.advance(12)

    assert shop.ran == [0, 1]
    shop.world.advance(10)
    assert jobs.get() == [0, 1, 2]


# --- failures -----------------------------------------------------------------------------------


def test_what_comes_after_a_failure_is_cancelled_and_names_it(shop):
    job = (shop.add.s(1, 1) | shop.fail.s() | shop.add.s(1) | shop.add.s(1)).delay()

    with pytest.raises(JobCancelled, match=f"job {job.parent.parent.id} failed") as caught:
        job.get()
    assert isinstance(caught.value.__cause__, JobFailed)
    assert "no such row" in str(caught.value.__cause__)


def test_one_errback_of_a_chain_is_told_which_job_failed_and_how(shop):
    job = (shop.fail.s() | shop.add.s(1) | shop.add.s(1)).on_error(shop.tell.s()).delay()

    shop.world.run()

    [(job_id, error, traceback)] = shop.told
    assert job_id == job.parent.parent.id
    assert error == "ValueError: no such row"
    assert traceback.startswith("Traceback")


def test_an_errback_of_one_argument_is_told_the_id(shop):
    job = shop.fail.apply_async(link_error=shop.tell_id.s())

    shop.world.run()

    assert shop.told == [job.id]


def test_an_errback_does_not_run_after_success(shop):
    job = shop.add.apply_async((1, 1), link_error=shop.tell.s())

    shop.world.run()

    assert job.get() == 2
    assert shop.told == []
    assert shop.app.workflow(job.id).progress.states == {State.SUCCEEDED: 1, State.CANCELLED: 1}


def test_an_errback_of_a_chord_hears_of_its_header(shop):
    chord([shop.add.s(1, 1), shop.fail.s()], shop.xsum.s()).on_error(shop.tell.s()).delay()

    shop.world.run()

    assert [error for _, error, _ in shop.told] == ["ValueError: no such row"]


def test_the_body_is_cancelled_at_once_and_the_other_members_run_on(shop):
    job = chord([shop.fail.s(), shop.same.s(1), shop.same.s(2)], shop.xsum.s()).delay()

    shop.world.run()

    assert job.state == "cancelled"
    assert shop.ran == [1, 2]


def test_with_cancel_siblings_they_are_cancelled_as_well(shop):
    header = [shop.fail.s(), shop.same.s(1).set(countdown=5), shop.same.s(2).set(countdown=5)]
    job = chord(header, shop.xsum.s(), cancel_siblings=True).delay()

    shop.world.advance(10)

    assert shop.ran == []
    assert [child.state for child in job.parent.children] == ["failed", "cancelled", "cancelled"]


def test_a_group_raises_the_first_failure_in_order_or_puts_it_in_its_place(shop):
    jobs = group(shop.same.s(1), shop.fail.s(), shop.same.s(3)).delay()

    with pytest.raises(JobFailed, match="no such row"):
        jobs.get()
    one, failure, three = jobs.get(return_errors=True)
    assert (one, three) == (1, 3)
    assert isinstance(failure, JobFailed)
    assert jobs.failed()
    assert not jobs.successful()
    assert jobs.ready()
    assert jobs.completed_count() == 2


def test_reviving_the_end_of_a_chain_goes_on_from_what_failed(shop):
    job = (shop.same.s("first") | shop.fail.s() | shop.same.s()).delay()
    shop.world.run()
    shop.is_broken = False

    assert job.revive()
    assert job.get() == "mended"
    assert shop.ran == ["first", "mended"]


def test_reviving_a_workflow_repeats_nothing_that_succeeded(shop):
    job = chord([shop.same.s(1), shop.fail.s(), shop.fail.s()], shop.same.s()).delay()
    shop.world.run()
    shop.is_broken = False

    assert shop.app.workflow(job.id).revive() == 3
    assert job.get() == [1, "mended", "mended"]
    assert shop.ran == [1, [1, "mended", "mended"]]


def test_a_retry_in_a_chain_is_no_failure_of_it(shop):
    tries = []

    @shop.app.task(name="flaky", retry=Retry(on=OSError, attempts=3, backoff=60))
    def flaky(x: int) -> int:
        tries.append(x)
        if len(tries) < 3:
            raise OSError("away")
        return x

    job = (shop.add.s(1, 1) | flaky.s() | shop.add.s(1)).delay()
    shop.world.advance("1h")

    assert job.get() == 3
    assert tries == [2, 2, 2]


# --- handles ------------------------------------------------------------------------------------


def test_the_jobs_of_a_workflow_that_a_job_goes_on_as_are_counted_with_those_of_its_own(shop):
    @shop.app.task(name="inner")
    def inner():
        return group(shop.same.s(1), shop.same.s(2) | shop.same.s().set(countdown=60))

    @shop.app.task(name="outer")
    def outer():
        return current().call(inner.s() | shop.same.s())

    job = (shop.same.si(0) | outer.si() | shop.same.s()).delay()
    workflow = shop.app.workflow(job.id)
    before = workflow.progress
    shop.world.run()
    during = workflow.progress
    shop.world.advance(60)

    assert (before.done, before.total) == (0, 3)
    assert (during.done, during.total) == (3, 8)
    assert during.states == {State.SUCCEEDED: 3, State.SCHEDULED: 1, State.WAITING: 4}
    assert (workflow.progress.done, workflow.progress.total) == (8, 8)
    assert workflow.wait(timeout=0) == workflow.progress


def test_a_long_send_tells_how_far_it_is(shop):
    told = []

    def tell(sent, total):
        told.append((sent, total))

    flow = shop.app.flow()
    for number in range(1_500):
        flow.add(shop.same.s(number))

    group(shop.same.s(number) for number in range(2_500)).apply_async(on_progress=tell)
    flow.delay(on_progress=tell)
    shop.same.delay_many(((number,) for number in range(600)), on_progress=tell)
    shop.same.delay_many([(1,), (2,)], on_progress=tell)
    shop.same.s(1).apply_async(on_progress=tell)

    assert told == [
        *[(1_000, 2_500), (2_000, 2_500), (2_500, 2_500)],
        *[(1_000, 1_500), (1_500, 1_500)],
        *[(500, None), (600, None)],
        (2, 2),
        (1, 1),
    ]


def test_a_group_tells_its_progress(shop):
    jobs = group(shop.same.s(1), shop.same.s(2).set(countdown=60)).delay()
    shop.world.run()

    assert (jobs.progress.done, jobs.progress.total) == (1, 2)
    assert str(jobs.progress) == "1 of 2: 1 scheduled, 1 succeeded"
    assert jobs.waiting()


def test_a_group_yields_its_jobs_as_they_end(shop):
    jobs = group(shop.same.s(1).set(countdown=60), shop.same.s(2)).delay()
    shop.world.advance(60)

    assert sorted(job.get() for job in jobs.as_completed()) == [1, 2]


def test_a_group_is_found_by_its_id_and_so_is_the_workflow_by_any_jobs(shop):
    jobs = group(shop.same.s(i) for i in range(3)).delay()
    shop.world.run()

    assert shop.app.group(jobs.id).get() == [0, 1, 2]
    assert shop.app.workflow(jobs.children[1].id).get() == [0, 1, 2]
    assert shop.app.workflow(jobs.id).wait().done == 3
    with pytest.raises(JobNotFound):
        shop.app.group("nowhere")
    with pytest.raises(JobNotFound):
        shop.app.workflow("nowhere")


def test_a_workflow_has_the_result_of_its_last_job_and_all_its_jobs(shop):
    job = (shop.add.s(1, 1) | shop.add.s(2)).on_error(shop.tell.s()).delay()
    shop.world.run()
    workflow = shop.app.workflow(job.id)

    assert workflow.get() == 4
    assert [one.id for one in workflow.jobs][:2] == [job.parent.id, job.id]
    assert [one.id for one in shop.app.jobs(workflow=workflow.id)] == [one.id for one in workflow.jobs[::-1]]


def test_cancelling_a_workflow_leaves_nothing_to_run(shop):
    job = chord([shop.same.s(1), shop.same.s(2)], shop.xsum.s()).delay()

    assert shop.app.workflow(job.id).cancel("enough") == 3
    shop.world.run()
    assert shop.ran == []


def test_cancelling_a_group_cancels_the_steps_before_its_members(shop):
    jobs = group(shop.same.s(1) | shop.same.s(), shop.same.s(2)).delay()

    assert jobs.cancel() == 3
    assert shop.world.run() == 0


def test_handles_are_pickled_as_ids(shop):
    jobs = group(shop.add.s(1, 1), group(shop.add.s(2, 2), shop.add.s(3, 3))).delay()
    shop.world.run()

    assert pickle.loads(pickle.dumps(jobs)).get() == [2, [4, 6]]
    assert pickle.loads(pickle.dumps(jobs.children[0])).get() == 2


def test_a_job_can_come_after_jobs_that_are_there_already(shop):
    first = shop.same.options(countdown=60).delay("first")
    second = shop.same.options(after=[first]).delay("second")
    third = shop.tell.s().set(after=[first.id], on="failure").delay()
    shop.world.run()
    assert (first.state, second.state) == ("scheduled", "waiting")

    shop.world.advance(60)

    assert shop.ran == ["first", "second"]
    assert third.state == "cancelled"


def test_a_job_after_a_failure_is_told_of_it(shop):
    failed = shop.fail.delay()
    shop.world.run()

    shop.tell.s().set(after=failed, on="failure").delay()
    shop.same.options(after=failed, on="done").delay("cleaned up")
    shop.world.run()

    assert [job_id for job_id, _, _ in shop.told] == [failed.id]
    assert shop.ran == ["cleaned up"]


async def _later(canvas):
    return await (await canvas.adelay()).aget()


def test_coroutines_enqueue_and_wait_without_blocking(shop):
    import asyncio

    assert asyncio.run(_later(group(shop.add.s(1, 1), shop.add.s(2, 2)))) == [2, 4]


def test_a_workflow_with_stable_ids_can_be_repeated(shop):
    def twice():
        first, second = shop.same.s("a").set(id=stable("v1")), shop.same.s().set(id=stable("v1"))
        return (first | second).delay()

    once, again = twice(), twice()

    assert once.id == again.id
    assert once.parent.id == again.parent.id
    assert once.get() == "a"
    assert shop.ran == ["a", "a"]


def test_a_workflow_that_was_written_in_part_is_completed_when_it_is_repeated(shop, monkeypatch):
    monkeypatch.setattr("cicely.workflow.pages.PAGE_JOBS", 2)
    canvas = chord([shop.add.s(i, i).set(id=f"part-{i}") for i in range(5)], shop.xsum.s().set(id="whole"))
    enqueue, pages = shop.world.engine.enqueue, []

    def only_once(jobs, edges=()):
        if pages:
            raise KeyError("the machine is gone")
        pages.append(jobs)
        return enqueue(jobs, edges)

    monkeypatch.setattr(shop.world.engine, "enqueue", only_once)
    with pytest.raises(KeyError):
        canvas.delay()
    monkeypatch.setattr(shop.world.engine, "enqueue", enqueue)
    assert shop.world.run() == 0

    assert canvas.delay().get() == 20


def test_workflows_that_share_their_first_job_are_workflows_of_their_own(shop):
    def score(number):
        return (shop.same.s("data").set(id="data") | shop.same.si(number)).delay()

    first, second = score(1), score(2)

    assert shop.app.workflow(second.id).id != shop.app.workflow(first.id).id
    assert (first.get(), second.get()) == (1, 2)
    assert shop.ran == ["data", 1, 2]


def test_a_large_workflow_begins_when_all_of_it_is_written(shop, monkeypatch):
    monkeypatch.setattr("cicely.workflow.pages.PAGE_JOBS", 10)
    monkeypatch.setattr("cicely.workflow.pages.PAGE_EDGES", 10)
    canvas = chord((shop.add.s(i, 1) for i in range(35)), shop.xsum.s())
    workflows = []
    monkeypatch.setattr(shop.world.engine, "publish", workflows.append)

    job = canvas.delay()
    assert shop.world.run() == 0
    monkeypatch.undo()
    shop.world.engine.publish(*workflows)

    assert job.get() == sum(i + 1 for i in range(35))
    assert job.parent.progress.done == 35


def test_a_job_for_which_another_stands_is_the_one_that_later_pages_name(shop, monkeypatch):
    monkeypatch.setattr("cicely.workflow.pages.PAGE_JOBS", 2)

    @shop.app.task(name="single", unique="one")
    def single():
        return 5

    there = single.options(countdown=60).delay()
    job = (group(shop.add.s(1, 1), single.s(), shop.add.s(2, 2)) | shop.xsum.s()).delay()
    shop.world.advance(60)

    assert job.get() == 11
    assert job.parent.children[1].id == there.id


def test_a_list_of_more_parents_than_come_with_a_claim_is_read_in_pages(shop, monkeypatch):
    monkeypatch.setattr("cicely.worker.inputs.PAGE", 7)

    assert chord((shop.add.s(i, i) for i in range(40)), shop.xsum.s()).delay().get() == 1560


def test_a_large_result_is_read_from_its_own_jobs_blob(shop):
    large = "x" * 200_000

    job = (shop.same.s(large) | shop.same.s()).delay()

    assert job.get() == large


def test_a_batch_takes_workflows_too(shop):
    with shop.app.batch():
        job = (shop.add.s(1, 1) | shop.add.s(2)).delay()
        assert shop.world.run() == 0

    assert job.get() == 4


def test_a_batch_that_fails_stores_nothing_of_a_workflow(shop):
    def broken_batch():
        with shop.app.batch():
            (shop.add.s(1, 1) | shop.add.s(2)).delay()
            raise KeyError

    with pytest.raises(KeyError):
        broken_batch()
    assert list(shop.app.jobs()) == []


# --- as data ------------------------------------------------------------------------------------


def test_canvases_round_trip_through_json(shop):
    canvas = chord(
        [shop.add.s(1, 1).set(queue="q", priority=9), shop.add.s(2, 2) | shop.mul.si(3, 3)],
        shop.same.s(),
        cancel_siblings=True,
    ).on_error(shop.tell.s())
    canvas = canvas | group(shop.same.s().set(id=stable("v")), shop.same.si({"k": (1, b"bytes")}))

    again = shop.app.signature(canvas.to_json())

    assert again == canvas
    assert type(again) is chain
    assert shop.app.signature(canvas.to_dict()) == canvas


def test_a_signature_of_an_unknown_task_is_refused_with_the_nearest_name(shop):
    with pytest.raises(UnknownTask, match=r"no task is called ad \(did you mean add\?\)"):
        shop.app.signature("ad", (1, 2))
    with pytest.raises(UnknownTask, match="did you mean add"):
        shop.app.signature(shop.add.s(1, 1).to_json().replace("add", "addd"))


@pytest.mark.parametrize("text", ["{", "{}", '{"chain": 1}', '{"task": "add", "args": 3}'])
def test_text_that_is_no_signature_is_refused(shop, text):
    with pytest.raises(ConfigError, match="signature"):
        shop.app.signature(text)


# --- refused where it is built ------------------------------------------------------------------


def test_a_value_that_cannot_be_stored_is_refused_at_delay(shop):
    with pytest.raises(NotStorable, match="argument 2 of add"):
        (shop.add.s(1, 1) | shop.add.s(lambda: 0)).delay()
    assert list(shop.app.jobs()) == []


def test_arguments_that_do_not_fit_are_refused_with_what_comes_before_counted(shop):
    with pytest.raises(TypeError, match="too many"):
        (shop.add.s(1, 1) | shop.add.s(1, 2)).delay()
    assert list(shop.app.jobs()) == []


@pytest.mark.parametrize(
    ("compose", "sentence"),
    [
        (lambda _: chain(), "a chain of nothing"),
        (lambda s: chord([s.add.s(1, 1)]).delay(), "a chord needs a body"),
        (lambda s: chord([s.add.s(1, 1)], group([])), "a group of nothing"),
        (lambda s: group(s.add.s(1, 1)).link(s.same.s()), "a group has no link"),
        (lambda s: s.add.s(1, 1).link(print), "link takes signatures"),
        (lambda s: group(print), "group takes signatures"),
        (lambda s: s.add.chunks([(1, 1)], 0), "a whole number from 1"),
        (lambda s: s.same.options(link=s.same.s()).delay_many([(1,)]), "delay_many takes no link="),
        (lambda s: s.add.s(1, 1).set(on="failing"), "one of success, failure, done"),
        (lambda s: s.add.s(1, 1).set(coutdown=1), r"did you mean countdown=\?"),
    ],
)
def test_what_is_no_workflow_is_refused(shop, compose, sentence):
    with pytest.raises(UsageError, match=sentence):
        compose(shop)


def test_a_lane_cannot_follow_from_a_result_that_is_not_there_yet(shop):
    @shop.app.task(name="for_user", lane=lambda user: f"user-{user}")
    def for_user(user):
        return user

    with pytest.raises(UsageError, match="the result of another job"):
        (shop.same.s("ann") | for_user.s()).delay()


def test_a_unique_key_cannot_follow_from_a_result_either(shop):
    @shop.app.task(name="once", unique="args")
    def once(user):
        return user

    with pytest.raises(NotStorable, match="the result of another job"):
        (shop.same.s("ann") | once.s()).delay()
