"""Writing a workflow: page by page, by whatever stores one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from cicely.core.edge import Edge
from cicely.core.job import Enqueued, NewJob
from cicely.workflow.build import Jobs, Planned
from cicely.workflow.outline import Outline
from cicely.workflow.pages import pages_of

Enqueue = Callable[[Sequence[NewJob], Sequence[Edge]], Sequence[Enqueued]]


class Remembering:
    """The jobs of a workflow, and, once they are read to the end, its outline."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.outline: Outline = ""

    def __iter__(self) -> Iterator[Planned]:
        """Yield the jobs, once."""
        self.outline = yield from self._jobs


class Written(msgspec.Struct, frozen=True):
    """What was written: an outline as planned, and the jobs that stand for others of it.

    `is_held`: nothing of it begins before its workflow is published.
    """

    outline: Outline
    names: Mapping[str, str]
    is_held: bool


def written(jobs: Jobs, enqueue: Enqueue, *, is_held: bool = False) -> Written:
    """Write the jobs of a workflow by calls of `enqueue`, each of which may be repeated as it is.

    Where an answer names another job, the edges of later pages do so as well.
    """
    planned = Remembering(jobs)
    names: dict[str, str] = {}
    for page in pages_of(planned, is_held=is_held):
        is_held = is_held or page.is_held
        edges = [renamed_edge(edge, names) for edge in page.edges] if names else page.edges
        answers = enqueue(page.jobs, edges)
        names |= {
            job.id: answer.id for job, answer in zip(page.jobs, answers, strict=True) if job.id != answer.id
        }
    return Written(planned.outline, names, is_held)


def renamed_edge(edge: Edge, names: Mapping[str, str]) -> Edge:
    """Return the edge between the jobs that stand for its own."""
    parent, child = names.get(edge.parent, edge.parent), names.get(edge.child, edge.child)
    return msgspec.structs.replace(edge, parent=parent, child=child)
