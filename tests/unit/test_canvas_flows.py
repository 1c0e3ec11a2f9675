"""Flows: any job after any others, by success, failure or any end."""

from __future__ import annotations

import asyncio

import pytest

from cicely import Cicely, JobCancelled, JobFailed, NotStorable, UsageError, group
from cicely.testing import inline


class Plant:
    """An app with tasks that note what they were given."""

    def __init__(self):
        self.app = app = Cicely("tests")
        self.ran = []

        @app.task(name="do")
        def do(name, *given):
            self.ran.append(name)
            return [name, *given]

        @app.task(name="fail")
        def fail(*_given):
            raise OSError("no power")

        @app.task(name="tell")
        def tell(job_id, error, traceback, *more):
            self.ran.append(error)
            return job_id

        self.do, self.fail, self.tell = do, fail, tell


@pytest.fixture
def plant():
    plant = Plant()
    with inline(plant.app) as world:
        plant.world = world
        yield plant


def test_a_node_among_the_arguments_is_its_result(plant):
    flow = plant.app.flow()
    left = flow.add(plant.do.s("left"))
    right = flow.add(plant.do.s("right"))
    flow.add(plant.do.s("join", left, right, left))

    run = flow.delay()

    assert run.get() == ["join", ["left"], ["right"], ["left"]]
    assert run[left].get() == ["left"]


def test_a_list_of_nodes_is_the_list_of_their_results(plant):
    flow = plant.app.flow()
    parts = [flow.add(plant.do.s(number)) for number in range(20)]
    flow.add(plant.do.s("all", parts))

    assert flow.delay().get() == ["all", [[number] for number in range(20)]]


def test_a_named_argument_may_be_a_node(plant):
    @plant.app.task(name="named")
    def named(*, value):
        return value

    flow = plant.app.flow()
    first = flow.add(plant.do.s("first"))
    flow.add(named.s(value=first))

    assert flow.delay().get() == ["first"]


def test_a_group_as_an_argument_is_a_list(plant):
    flow = plant.app.flow()
    many = flow.add(group(plant.do.s(1), plant.do.s(2)))
    flow.add(plant.do.s("end", many))

    run = flow.delay()

    assert run.get() == ["end", [[1], [2]]]
    assert run[many].get() == [[1], [2]]


def test_after_is_an_order_and_passes_nothing_on(plant):
    flow = plant.app.flow()
    flow.add(plant.do.s("second"), after="first")
    flow.add(plant.do.s("first"), name="first")

    run = flow.delay()

    assert run.get() == ["second"]
    assert plant.ran == ["first", "second"]


def test_a_finaliser_runs_whatever_happens(plant):
    flow = plant.app.flow()
    broken = flow.add(plant.fail.s())
    after = flow.add(plant.do.s("after", broken))
    release = flow.add(plant.do.s("release"), after=after, on="done")

    run = flow.delay()
    plant.world.run()

    assert plant.ran == ["release"]
    assert run[release].get() == ["release"]
    with pytest.raises(JobFailed, match="no power"):
        run[broken].get()
    with pytest.raises(JobCancelled):
        run[after].get()


def test_a_failure_is_raised_although_a_finaliser_after_it_succeeded(plant):
    flow = plant.app.flow()
    broken = flow.add(plant.fail.s() | plant.do.s("never"))
    flow.add(plant.do.s("after", broken), name="after")
    flow.add(plant.do.s("release"), after="after", on="done")

    run = flow.delay()
    plant.world.run()

    with pytest.raises(JobFailed, match="no power"):
        run.get()
    with pytest.raises(JobFailed, match="no power"):
        asyncio.run(run.aget())


def test_a_cancellation_by_hand_is_raised_although_a_finaliser_after_it_succeeded(plant):
    flow = plant.app.flow()
    first = flow.add(plant.do.s("first"))
    flow.add(plant.do.s("release"), after=first, on="done")
    run = flow.delay()

    run[first].cancel("not today")

    with pytest.raises(JobCancelled, match="not today"):
        run.get()


def test_where_nothing_failed_what_waits_for_a_failure_is_no_failure(plant):
    flow = plant.app.flow()
    good = flow.add(plant.do.s("good"))
    told = flow.add(plant.tell.s(), after=good, on="failure")
    flow.add(plant.do.s("after it", told))

    assert flow.delay().get() == ["good"]


def test_what_comes_after_a_failure_is_told_of_it_and_is_no_result(plant):
    flow = plant.app.flow()
    broken = flow.add(plant.fail.s())
    told = flow.add(plant.tell.s(), after=broken, on="failure")

    run = flow.delay()
    plant.world.run()

    assert plant.ran == ["OSError: no power"]
    assert run[told].get() == run[broken].id
    with pytest.raises(JobFailed):
        run.get()


def test_what_comes_after_a_failure_can_have_results_of_others(plant):
    flow = plant.app.flow()
    good = flow.add(plant.do.s("good"))
    broken = flow.add(plant.fail.s())
    flow.add(plant.tell.s(good, good), name="tell", after=broken, on="failure")

    run = flow.delay()
    plant.world.run()

    assert run["tell"].get() == run[broken].id


def test_the_result_of_a_flow_is_that_of_what_nothing_comes_after(plant):
    flow = plant.app.flow()
    first = flow.add(plant.do.s("first"))
    flow.add(plant.do.s("a", first))
    flow.add(plant.do.s("b", first))

    run = flow.delay()

    assert run.get() == [["a", ["first"]], ["b", ["first"]]]
    assert plant.app.workflow(run.id).progress.done == 3


def test_a_cycle_is_refused_and_named(plant):
    flow = plant.app.flow()
    flow.add(plant.do.s(1), name="embed", after="swap")
    flow.add(plant.do.s(2), name="index", after="embed")
    flow.add(plant.do.s(3), name="swap", after="index")

    with pytest.raises(UsageError, match=r"cycle.*: embed → index → swap → embed"):
        flow.check()
    with pytest.raises(UsageError, match="cycle"):
        flow.delay()
    assert list(plant.app.jobs()) == []


def test_a_node_after_itself_is_a_cycle(plant):
    flow = plant.app.flow()
    flow.add(plant.do.s(1), name="a", after="a")

    with pytest.raises(UsageError, match="a → a"):
        flow.check()


def test_a_long_flow_is_no_matter_of_depth(plant):
    flow = plant.app.flow()
    flow.add(plant.do.s(0), name="0")
    for number in range(1, 3_000):
        flow.add(plant.do.s(number), name=str(number), after=str(number - 1))

    flow.check()


def test_an_unknown_name_is_refused_with_the_nearest(plant):
    flow = plant.app.flow()
    flow.add(plant.do.s(1), name="embed")
    flow.add(plant.do.s(2), after="embd")

    with pytest.raises(UsageError, match=r"did you mean 'embed'\?"):
        flow.check()


def refuse_twice(plant, flow):
    flow.add(plant.do.s(1), name="a")
    flow.add(plant.do.s(1), name="a")


def refuse_stranger(plant, flow):
    stranger = plant.app.flow().add(plant.do.s(1))
    flow.add(plant.do.s(stranger))


def refuse_strange_order(plant, flow):
    flow.add(plant.do.s(1), after=plant.app.flow().add(plant.do.s(1)))


def refuse_mixed_list(plant, flow):
    flow.add(plant.do.s([flow.add(plant.do.s(1)), 2]))


def refuse_outside(plant, flow):
    plant.do.s(flow.add(plant.do.s(1))).delay()


def refuse_contradiction(plant, flow):
    first = flow.add(plant.do.s(1))
    flow.add(plant.do.s(first), after=first, on="failure")
    flow.delay()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda _, flow: flow.check(), "a flow of nothing"),
        (refuse_twice, "two nodes of the flow are called 'a'"),
        (refuse_stranger, "of another flow"),
        (refuse_strange_order, "of another flow"),
        (refuse_mixed_list, "nodes of a flow beside other values"),
        (refuse_outside, "add this to the flow"),
        (refuse_contradiction, "leave one of the two out"),
    ],
)
def test_what_is_no_graph_is_refused(plant, build, sentence):
    with pytest.raises(UsageError, match=sentence):
        build(plant, plant.app.flow())


def test_a_node_deep_inside_an_argument_is_refused(plant):
    flow = plant.app.flow()
    node = flow.add(plant.do.s(1))
    flow.add(plant.do.s({"deep": node}))

    with pytest.raises(NotStorable, match="FlowNode"):
        flow.delay()
