"""Stands in for the past in an engine that does not keep one yet: nothing is counted, nothing is told."""

from __future__ import annotations

from collections.abc import Sequence

from cicely.core.event import EventFilter, EventPage
from cicely.core.rollup import Count, RollupPage


class WithoutPast:
    """The verbs of the past, where there is none."""

    def report(self, counts: Sequence[Count]) -> None:
        """Drop it."""

    def rollups(self, since_minute: int, until_minute: int, *, limit: int = 1_000) -> RollupPage:
        """Return nothing."""
        return RollupPage((), None)

    def history(self, where: EventFilter, *, limit: int = 100, cursor: str | None = None) -> EventPage:
        """Return nothing."""
        return EventPage((), "")
