"""What an engine supplies so that the suite can drive it."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from cicely.engines.contract import Engine


class Capability(StrEnum):
    """A promise that an engine may make beyond those which all engines make."""

    AGEING = "ageing"
    BELLS = "bells"
    BLOBS = "blobs"
    DURABLE = "durable"
    EVENTS = "events"
    FLOW = "flow control"
    RESERVATIONS = "reservations"
    ROLLUPS = "rollups"
    THREADS = "threads"


class Harness(Protocol):
    """An empty home of jobs, its clock and its connections; made anew for each test."""

    #: The engine's name, for reports only: no test asks for it.
    name: str
    capabilities: frozenset[Capability]

    def engine(self) -> Engine:
        """Return another connection, opened, to the same jobs."""

    def advance(self, seconds: float) -> None:
        """Let so much of the engine's time pass: set a clock, or sleep."""

    def destroy(self) -> None:
        """Delete every job and every connection."""
