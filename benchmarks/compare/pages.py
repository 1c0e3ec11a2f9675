"""Writes a comparison onto a page of the docs, with one plot per table beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare.lines import Group
from benchmarks.compare.plots import Bar, bars
from benchmarks.compare.results import Comparison, Field
from benchmarks.compare.statistics import NEVER
from benchmarks.compare.tables import as_markdown, groups_of, ordered
from benchmarks.page import write_between
from benchmarks.peers.catalogue import OURS

MARK = "comparison"


def write_comparisons(page: Path, comparisons: Sequence[Comparison]) -> None:
    """Put the tables between the page's marks, and the plots into the folder of the page's name."""
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    drawings: dict[tuple[str, str], str] = {}
    for field in (field for comparison in comparisons for field in comparison.fields):
        for group in groups_of(field):
            if drawn := _drawing(field, group):
                path = folder / f"{field.engine}-{group.key}.svg"
                path.write_text(drawn)
                drawings[field.engine, group.key] = f"{folder.name}/{path.name}"
    texts = [as_markdown(comparison, drawings=drawings) for comparison in comparisons]
    write_between(page, "\n\n".join(texts), mark=MARK)


def _drawing(field: Field, group: Group) -> str:
    """Return the plot of the group's first line; nothing where fewer than two can be drawn."""
    line = group.lines[0]
    rows = [
        Bar(showing.name, spread.median, spread.least, spread.most, showing.name == OURS)
        for showing in ordered(field, group)
        if (spread := showing.spread(line.key)) is not None and spread.most < NEVER
    ]
    return bars(f"{group.title}: {line.text}", line.unit, rows) if len(rows) > 1 else ""
