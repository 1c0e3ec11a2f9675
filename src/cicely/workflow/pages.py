"""A workflow in pages: a small one is one page; of a large one nothing begins before all is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from cicely.core.edge import Edge
from cicely.core.job import NewJob
from cicely.workflow.build import Planned

PAGE_JOBS: Final = 1_000
PAGE_EDGES: Final = 2_000


class Page(msgspec.Struct, frozen=True):
    """Jobs and edges of one enqueue. Jobs are named by edges of their own page or of later ones."""

    jobs: list[NewJob]
    edges: list[Edge]
    is_held: bool


def pages_of(planned: Iterable[Planned], *, is_held: bool = False) -> Iterator[Page]:
    """Yield what is planned in pages, lazily.

    What fits one page is one, and can begin at once unless it `is_held`. Else the jobs that would
    begin are held, until whoever writes the pages publishes the workflow.
    """
    page = _Filling()
    for one in planned:
        if page.fits(one):
            page.add(one)
            continue
        is_held = True
        yield page.taken(is_held=True)
        yield from page.add_in_parts(one)
    if page.jobs or page.edges:
        yield page.taken(is_held=is_held)


class _Filling:
    """The page that is being filled."""

    def __init__(self) -> None:
        self.jobs: list[Planned] = []
        self.edges: list[Edge] = []
        self._split: set[str] = set()

    def fits(self, one: Planned) -> bool:
        return len(self.jobs) < PAGE_JOBS and len(self.edges) + len(one.edges) <= PAGE_EDGES

    def add(self, one: Planned) -> None:
        self.jobs.append(one)
        self.edges += one.edges

    def add_in_parts(self, one: Planned) -> Iterator[Page]:
        """Begin a new page with a job; yield full pages where its edges fill more than one."""
        self.jobs.append(one)
        starts = range(0, max(len(one.edges), 1), PAGE_EDGES)
        if len(starts) > 1:
            self._split.add(one.job.id)
        for start in starts:
            if start:
                yield self.taken(is_held=True)
            self.edges += one.edges[start : start + PAGE_EDGES]

    def taken(self, *, is_held: bool) -> Page:
        """Return the page and begin an empty one."""
        jobs = [self._job(one, is_held=is_held) for one in self.jobs]
        page = Page(jobs, self.edges, is_held)
        self.jobs, self.edges = [], []
        return page

    def _job(self, one: Planned, *, is_held: bool) -> NewJob:
        begins = not one.edges or one.is_loose or one.job.id in self._split
        return msgspec.structs.replace(one.job, held=True) if is_held and begins else one.job
