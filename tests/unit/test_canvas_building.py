"""What a canvas becomes: jobs, and edges between them."""

from __future__ import annotations

import pytest

from cicely.core.edge import Role, Rule
from cicely.core.job import Kind, NewJob
from cicely.core.values.inputs import OPEN, Inputs, Part
from cicely.errors import UsageError
from cicely.workflow.build import Builder
from cicely.workflow.nodes import Call, Chain, Chord, Group, chained, check_size, joined, with_arguments
from cicely.workflow.outline import Many, Trail, edge_behind, is_closed
from cicely.workflow.pages import PAGE_JOBS, pages_of
from cicely.workflow.written import Remembering

A, B, C, D = (Call(task=name) for name in "abcd")


class Maker:
    """Makes jobs whose ids are their tasks' names and a number, and remembers their arguments."""

    def __init__(self, *, capacity=9):
        self.args = {}
        self.capacity = capacity

    def takes(self, call, count):
        return count + len(call.args) <= self.capacity

    def chosen_id(self, call, options, parents):
        return options["id"]

    def identity(self, call, options):
        return options.get("id", "") if call else ""

    def make(self, call, options, *, job_id):
        self.args[job_id] = call.args
        return NewJob(job_id, call.task, Kind.SYNC, options.get("queue", "default"))


class Built:
    """A node, built."""

    def __init__(self, node, *, capacity=9):
        numbers = iter(range(10_000))
        self.maker = Maker(capacity=capacity)
        builder = Builder(self.maker, lambda: f"n{next(numbers)}", workflow="w")
        planned = Remembering(builder.whole(node))
        self.planned = list(planned)
        self.outline = planned.outline
        self.jobs = {one.job.id: one.job for one in self.planned}

    def task(self, job_id):
        return self.jobs[job_id].task

    @property
    def edges(self):
        return [
            (self.task(e.parent), self.task(e.child), e.rule, e.role) for p in self.planned for e in p.edges
        ]

    def args(self, task):
        [job_id] = [job.id for job in self.jobs.values() if job.task == task]
        return self.maker.args[job_id]

    def group(self, task):
        [job] = [job for job in self.jobs.values() if job.task == task]
        return job.group


ALL_OF_TWO = Inputs((range(OPEN),))


def test_each_step_of_a_chain_is_given_the_result_of_the_one_before():
    built = Built(Chain(steps=(A, Call(task="b", args=(1,)))))

    assert built.edges == [("a", "b", Rule.SUCCESS, Role.INPUT)]
    assert built.args("a") == ()
    assert built.args("b") == (Inputs(0), 1)
    assert isinstance(built.outline, Trail)


def test_an_immutable_step_only_waits():
    built = Built(Chain(steps=(A, Call(task="b", args=(1,), immutable=True))))

    assert built.edges == [("a", "b", Rule.SUCCESS, Role.ORDER)]
    assert built.args("b") == (1,)


def test_the_body_of_a_chord_is_given_all_that_comes_before_it_also_what_is_added_later():
    built = Built(Chord(header=Group(members=(A, B)), body=C))

    assert built.args("c") == (ALL_OF_TWO,)
    assert [edge[:2] for edge in built.edges] == [("a", "c"), ("b", "c")]


def test_a_group_with_something_behind_it_is_a_chord():
    assert Built(Chain(steps=(Group(members=(A, B)), C))).edges == (
        Built(Chord(header=Group(members=(A, B)), body=C)).edges
    )


def test_a_group_behind_a_group_is_given_the_whole_list_by_each_member():
    built = Built(Chain(steps=(Group(members=(A, B)), Group(members=(C, D)))))

    assert [edge[:2] for edge in built.edges] == [("a", "c"), ("b", "c"), ("a", "d"), ("b", "d")]
    assert built.args("c") == built.args("d") == (ALL_OF_TWO,)


def test_groups_within_groups_are_lists_within_lists():
    inner = Group(members=(A, B))

    built = Built(Chain(steps=(Group(members=(inner, C)), D)))

    assert built.args("d") == (Inputs(((range(2),), range(2, OPEN))),)


def test_a_chain_within_a_group_has_its_last_result():
    built = Built(Chain(steps=(Group(members=(Chain(steps=(A, B)), C)), D)))

    assert [edge[:2] for edge in built.edges] == [("a", "b"), ("b", "d"), ("c", "d")]


def test_nothing_of_an_empty_group_is_awaited_but_what_comes_before_it_is():
    built = Built(Chain(steps=(A, Group(members=()), B)))

    assert built.edges == [("a", "b", Rule.SUCCESS, Role.ORDER)]
    assert built.args("b") == ([],)


def test_a_group_of_one_is_its_member_where_something_comes_after_it():
    built = Built(Chain(steps=(Group(members=(A,)), B)))

    assert built.args("b") == (Inputs(0),)


def test_a_chord_of_one_has_a_list_of_one():
    built = Built(Chord(header=Group(members=(A,)), body=B))

    assert built.args("b") == (Inputs((range(OPEN),)),)


def test_an_errback_is_told_job_error_and_traceback():
    built = Built(Call(task="a", errbacks=(Call(task="e", args=(1,)),)))

    assert built.edges == [("a", "e", Rule.FAILURE, Role.INPUT)]
    assert built.args("e") == (*(Inputs(0, part) for part in (Part.JOB_ID, Part.ERROR, Part.TRACEBACK)), 1)


def test_an_errback_of_one_argument_is_told_the_job():
    assert Built(Call(task="a", errbacks=(B,)), capacity=1).args("b") == (Inputs(0, Part.JOB_ID),)


def test_one_errback_behind_its_last_job_is_enough_for_a_chain():
    built = Built(Chain(steps=(A, B, C), errbacks=(D,)))

    assert built.edges[-1] == ("c", "d", Rule.FAILURE, Role.INPUT)
    assert len(built.edges) == 3


def test_each_member_of_a_group_has_an_errback_of_its_own():
    built = Built(Group(members=(A, B), errbacks=(C,)))

    assert [edge[:2] for edge in built.edges] == [("a", "c"), ("b", "c")]
    assert len(built.jobs) == 4


def test_a_link_is_given_the_result_and_is_no_part_of_it():
    built = Built(Call(task="a", links=(B,)))

    assert built.edges == [("a", "b", Rule.SUCCESS, Role.INPUT)]
    assert built.task(built.outline) == "a"


def test_cancel_siblings_stands_in_the_edges():
    planned = Built(Chord(header=Group(members=(A, B)), body=C, cancels_siblings=True)).planned

    assert all(edge.cancels_siblings for edge in planned[-1].edges)


def test_every_job_names_its_workflow_and_its_group():
    built = Built(Chord(header=Group(members=(A, B)), body=C))

    assert {job.workflow for job in built.jobs.values()} == {"w"}
    assert built.group("a") == built.group("b")
    assert built.group("c") == "end:w"
    assert built.task(edge_behind("a", built.group("a")).child) == "c"


def test_a_group_that_several_jobs_come_after_takes_no_more():
    assert is_closed(Built(Chain(steps=(Group(members=(A, B)), Group(members=(C, D))))).group("a"))


def test_a_group_at_the_end_has_the_workflows_own_label():
    assert Built(Chain(steps=(A, Group(members=(B, C))))).group("b") == "w"


def test_options_of_a_composite_go_to_the_first_the_last_or_all_that_have_no_own():
    steps = (A, Call(task="b", options={"queue": "own"}))
    built = Built(Chain(steps=steps, options={"queue": "q", "id": "x", "countdown": 5}))

    assert {job.task: job.queue for job in built.jobs.values()} == {"a": "q", "b": "own"}
    assert built.jobs["x"].task == "b"


def test_an_id_for_a_group_is_refused():
    with pytest.raises(UsageError, match="id= names one job"):
        Built(Group(members=(A, B), options={"id": "x"}))


def test_a_link_of_a_group_is_refused_with_the_remedy():
    with pytest.raises(UsageError, match=r"write group\(...\) | task"):
        Built(Group(members=(A,), links=(B,)))


def test_one_id_for_two_jobs_of_a_chain_is_refused():
    first, second = (Call(task=task, options={"id": "x"}) for task in "ab")

    with pytest.raises(UsageError, match="two jobs of one workflow have the id x"):
        Built(Chain(steps=(first, second)))


def test_one_id_for_two_jobs_that_nothing_comes_before_is_one_job():
    same = Call(task="a", options={"id": "x"})

    built = Built(Chain(steps=(Group(members=(same, same)), B)))

    assert len(built.jobs) == 2
    [inputs] = built.args("b")
    assert inputs.of([lambda _: "once"]) == ["once", "once"]


def test_chains_in_chains_are_one():
    assert joined(joined(A, B), joined(C, D)).steps == (A, B, C, D)


def test_a_chain_of_nothing_is_refused():
    with pytest.raises(UsageError, match="a chain of nothing"):
        chained(())


def test_arguments_go_to_the_first_of_a_chain_and_to_each_member_of_a_header():
    node = Chain(steps=(Chord(header=Group(members=(A, B)), body=C), D))

    given = with_arguments(node, (1,), {"k": 2})

    chord = given.steps[0]
    assert [member.args for member in chord.header.members] == [(1,), (1,)]
    assert chord.body == C


def test_a_million_jobs_and_one_are_refused_before_any_is_made():
    thousand = Group(members=(A,) * 1_000)

    assert check_size(Group(members=(thousand,) * 1_000)) == 1_000_000
    with pytest.raises(UsageError, match="a workflow of 1,000,001 jobs"):
        check_size(Group(members=(*(thousand,) * 1_000, A)))


def test_a_canvas_that_is_too_deep_is_refused():
    node = A
    for _ in range(100):
        node = Group(members=(node, A))

    with pytest.raises(UsageError, match="nested deeper than 64"):
        check_size(node)


def test_what_comes_before_is_first():
    header = Group(members=(Chain(steps=(A, B)), C))
    seen = set()

    for one in Built(Chord(header=header, body=D)).planned:
        assert all(edge.parent in seen for edge in one.edges)
        seen.add(one.job.id)


def test_a_small_workflow_is_one_page_that_begins_at_once():
    [page] = pages_of(iter(Built(Chain(steps=(A,) * PAGE_JOBS)).planned))

    assert len(page.jobs) == PAGE_JOBS
    assert not any(job.held for job in page.jobs)


def test_of_a_large_chain_only_the_first_is_held():
    pages = list(pages_of(iter(Built(Chain(steps=(A,) * (PAGE_JOBS + 1))).planned)))

    assert [len(page.jobs) for page in pages] == [PAGE_JOBS, 1]
    assert [job.held for page in pages for job in page.jobs] == [True] + [False] * PAGE_JOBS


def test_a_body_whose_edges_fill_several_pages_is_held():
    pages = list(pages_of(iter(Built(Chord(header=Group(members=(A,) * 5_000), body=B)).planned)))

    jobs = [job for page in pages for job in page.jobs]
    assert all(job.held for job in jobs)
    assert len(jobs) == 5_001
    assert sum(len(page.edges) for page in pages) == 5_000
    assert max(len(page.edges) for page in pages) <= 2_000


def test_an_outline_has_the_shape_of_the_result():
    outline = Built(Group(members=(A, Group(members=(B, C)), Chain(steps=(A, D))))).outline

    assert isinstance(outline, Many)
    assert [type(member).__name__ for member in outline.members] == ["str", "Many", "Trail"]
