"""What a comparison found, as values: who, on which server, which figures, and why some are missing."""

from __future__ import annotations

import msgspec

from benchmarks.compare.lines import Sizes
from benchmarks.compare.statistics import Spread
from benchmarks.machine import Machine


class Showing(msgspec.Struct):
    """One system's figures by line, one per run, and by group why it has none."""

    name: str
    settings: str
    versions: dict[str, str] = {}
    figures: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}

    def add(self, figures: dict[str, float]) -> None:
        """Add those of one run."""
        for line, value in figures.items():
            self.figures.setdefault(line, []).append(value)

    def spread(self, line: str) -> Spread | None:
        """Return the median and the ends of a line; None if it was not measured."""
        values = self.figures.get(line)
        return Spread.of(values) if values else None


class Field(msgspec.Struct, frozen=True):
    """All systems on one server."""

    engine: str
    about: str
    call: str
    showings: tuple[Showing, ...]


class Comparison(msgspec.Struct, frozen=True):
    """One run of the command. `load` is that of the machine before and after."""

    machine: Machine
    sizes: Sizes
    runs: int
    load: tuple[float, float]
    fields: tuple[Field, ...]
