"""Medians, spreads, ratios and verdicts: as a table for people, as JSON, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from benchmarks.bench import Figure, Sizes
from benchmarks.machine import Machine
from benchmarks.targets import Bars, Judged, Line, lines_of

HEADS = ("", "unit", "median", "spread", "raw", "ratio", "first", "done", "goal", "verdict")


class Row(msgspec.Struct, frozen=True):
    """A line with what was measured; `ratio` is the median of the paired ratios."""

    line: Line
    values: tuple[float, ...]
    median: float
    raw: float | None
    ratio: float | None
    verdict: str


class Table(msgspec.Struct, frozen=True):
    """The rows of one engine, and what it says of itself."""

    engine: str
    about: str
    rows: tuple[Row, ...]


class Report(msgspec.Struct, frozen=True):
    """All tables of one run, and where it ran."""

    machine: Machine
    sizes: Sizes
    tables: tuple[Table, ...]


def rows_of(engine: str, figures: Sequence[Figure]) -> tuple[Row, ...]:
    """Return the rows of those lines that were measured."""
    return tuple(
        _row(line, found)
        for line in lines_of(engine)
        if (found := [figure for figure in figures if figure.line == line.key])
    )


def _row(line: Line, figures: Sequence[Figure]) -> Row:
    value = median(figure.value for figure in figures)
    raws = [figure.raw for figure in figures if figure.raw is not None]
    ratios = [figure.ratio for figure in figures if figure.ratio is not None]
    ratio = median(ratios) if ratios else None
    judged = ratio if line.judged is Judged.RATIO else value
    return Row(
        line=line,
        values=tuple(figure.value for figure in figures),
        median=value,
        raw=median(raws) if raws else None,
        ratio=ratio,
        verdict="" if judged is None else line.bars.reached(judged, line.better),
    )


def as_json(report: Report) -> str:
    """Return everything, the single measurements included."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def as_text(report: Report) -> str:
    """Return the table for a terminal."""
    lines = list(report.machine.lines())
    for table in report.tables:
        cells = [HEADS, *(_cells(row) for row in table.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(HEADS))]
        lines += ["", table.about, "", *(_aligned(row, widths) for row in cells)]
    return "\n".join(lines)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    left = 2
    cells = [
        cell.ljust(width) if column < left or column == len(row) - 1 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def as_page(report: Report) -> str:
    """Return the tables for a page of the docs."""
    lines: list[str] = []
    for table in report.tables:
        lines += ["", f"**{table.about}**", ""]
        lines += ["| " + " | ".join(HEADS) + " |", "|" + "---|" * 2 + "---:|" * 7 + "---|"]
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in table.rows]
    return "\n".join(lines[1:])


def _cells(row: Row) -> tuple[str, ...]:
    line = row.line
    bars = line.bars
    return (
        line.text,
        line.unit,
        number(row.median),
        f"{number(min(row.values))} to {number(max(row.values))}",
        "" if row.raw is None else number(row.raw),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        _bar(bars.first, line),
        _bar(bars.done, line),
        _goal(bars, line),
        row.verdict,
    )


def _goal(bars: Bars, line: Line) -> str:
    if bars.goal is None and bars.moonshot is not None:
        return f"({_bar(bars.moonshot, line)})"
    return _bar(bars.goal, line)


def _bar(bar: float | None, line: Line) -> str:
    if bar is None:
        return ""
    return f"{bar:.0%}" if line.judged is Judged.RATIO else number(bar)


def number(value: float) -> str:
    """Return a figure with three digits that mean something."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
