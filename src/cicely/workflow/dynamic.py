"""What a running job adds: a workflow that it waits for or goes on as, and jobs beside it in its group."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

import msgspec

from cicely.core.edge import Edge, Role, Rule
from cicely.core.job import Claim
from cicely.core.values.inputs import Inputs
from cicely.errors import JobNotFound, UsageError
from cicely.workflow.before import START
from cicely.workflow.build import Builder, Maker, derived_id
from cicely.workflow.nodes import Call, Node, check_ends, check_size
from cicely.workflow.outline import Outline, edge_behind, ids_of, is_closed, is_end, renamed, shape_of
from cicely.workflow.pages import Page, pages_of
from cicely.workflow.written import Enqueue, Remembering, written

#: A job waits for so many others by edges of its own; for more, a job between gathers their results,
#: and as the job itself would, it waits until all have ended.
MAX_CALLED: Final = 256


class Called(msgspec.Struct, frozen=True):
    """A workflow that is written, and not published: how its caller waits for it.

    The caller suspends with `edges` and publishes `workflow` by that. `inputs` says which of the jobs
    that it called have the workflow's result, in which shape; `worker.inputs.called_value` reads it.
    """

    workflow: str
    edges: tuple[Edge, ...]
    inputs: Inputs


def called(node: Node, maker: Maker, enqueue: Enqueue, *, claim: Claim, calls: int, gather: str) -> Called:
    """Write the workflow that a running job calls, or returns to go on as it; nothing of it begins.

    `calls` is the number of jobs that the job has called before, `gather` the task that returns its
    argument. The workflow's id follows from the job and its fence: what an attempt wrote that was cut
    short is never published, and swept. Raises as `delay` does.
    """
    gatherer = (Call(task=gather),) if check_ends(node) > MAX_CALLED else ()
    check_size(node, *gatherer)
    workflow = derived_id("called", claim.job_id, str(claim.fence), str(calls))
    builder = Builder(maker, _ids_from(workflow), workflow=workflow)
    jobs = builder.gathered(node, gatherer[0]) if gatherer else builder.whole(node)
    result = written(jobs, enqueue, is_held=True)
    outline = renamed(result.outline, result.names)
    leaves = ids_of([outline])
    edges = tuple(Edge(leaf, claim.job_id, Rule.DONE, Role.CALL) for leaf in leaves)
    index = {leaf: calls + number for number, leaf in enumerate(leaves)}
    return Called(workflow, edges, Inputs(shape_of(outline, index)))


def added_to_group(node: Node, maker: Maker, enqueue: Enqueue, *, claim: Claim, number: int) -> Outline:
    """Add a node to the group that a running job is a member of, and to what the group's body waits for.

    `number` counts the additions of this job: a second attempt adds the same jobs under the same ids,
    which changes nothing. All are stored, or none. Raises UsageError for a job that is in no group.
    """
    _check_group(claim)
    check_size(node)
    builder = Builder(maker, _ids_from("added", claim.job_id, str(number)), workflow=claim.workflow)
    jobs = Remembering(builder.part(node, START, group=claim.group))
    page = _only(list(pages_of(jobs)))
    behind = (edge_behind(leaf, claim.group) for leaf in ids_of([jobs.outline]))
    edges = [*page.edges, *filter(None, behind)]
    try:
        answers = enqueue(page.jobs, edges)
    except JobNotFound as error:
        raise UsageError(
            f"the body of the group {claim.group} is not known by that id, so that nothing can be added "
            f"to what it waits for (another job stands for it by its unique key): {error}"
        ) from error
    names = {job.id: answer.id for job, answer in zip(page.jobs, answers, strict=True)}
    return renamed(jobs.outline, names)


def _check_group(claim: Claim) -> None:
    if not claim.group or is_end(claim.group):
        raise UsageError(f"job {claim.job_id} is in no group, so that nothing can be added to its group")
    if is_closed(claim.group):
        raise UsageError(
            f"nothing can be added to the group of job {claim.job_id}: what comes after the group is not "
            "one job but several, or has a stable id"
        )


def _only(pages: list[Page]) -> Page:
    if len(pages) != 1:
        raise UsageError("more than 1,000 jobs in one addition to a group: add them in several calls")
    return pages[0]


def _ids_from(*parts: str) -> Callable[[], str]:
    """Return a maker of ids that are the same in the same order."""
    numbers = count()
    return lambda: derived_id(*parts, str(next(numbers)))
