"""Tables of a comparison, for a terminal and for a page of the docs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.compare.lines import GROUPS, Group, Line
from benchmarks.compare.results import Comparison, Field, Showing
from benchmarks.compare.statistics import NEVER, Spread, best_of, paired, verdict
from benchmarks.peers.catalogue import OURS
from benchmarks.report import number
from benchmarks.targets import Better

Cells = tuple[str, ...]
#: What the setting risks, at the end of each row.
RISK = "process killed, its job runs again"
#: Fewer say nothing of who is ahead.
RUNS_THAT_DECIDE = 3


def groups_of(field: Field) -> list[Group]:
    """Return the groups that were measured for at least one system."""
    return [group for group in GROUPS if any(_measured(showing, group) for showing in field.showings)]


def _measured(showing: Showing, group: Group) -> bool:
    return any(line.key in showing.figures for line in group.lines)


def heads_of(group: Group) -> Cells:
    """Return the heads of a group's columns."""
    heads = [f"{line.text}, {line.unit}" if line.unit else line.text for line in group.lines]
    return ("", *heads, *(() if group.key == "kill" else (RISK,)))


def rows_of(field: Field, group: Group, *, patience_s: float) -> list[Cells]:
    """Return a row per system that has figures, the best in the first line first."""
    return [_row(showing, group, patience_s=patience_s) for showing in ordered(field, group)]


def absences_of(field: Field, group: Group) -> list[str]:
    """Return who has no figures, and why."""
    absent = [showing for showing in field.showings if not _measured(showing, group)]
    return [f"{showing.name}: {_reason(showing, group)}" for showing in absent]


def _reason(showing: Showing, group: Group) -> str:
    return showing.reasons.get(group.key) or showing.reasons.get("install") or "not measured"


def ordered(field: Field, group: Group) -> list[Showing]:
    """Return the systems with figures of a group, the best in its first line first."""
    first = group.lines[0]
    with_figures = [showing for showing in field.showings if _measured(showing, group)]
    return sorted(with_figures, key=lambda showing: _rank(showing.spread(first.key), first))


def _rank(spread: Spread | None, line: Line) -> float:
    if spread is None:
        return NEVER
    return -spread.median if line.better is Better.MORE else spread.median


def _row(showing: Showing, group: Group, *, patience_s: float) -> Cells:
    cells = [_cell(showing.spread(line.key), patience_s=patience_s) for line in group.lines]
    risk = () if group.key == "kill" else (_risk(showing, patience_s=patience_s),)
    return (showing.name, *cells, *risk)


def _cell(spread: Spread | None, *, patience_s: float) -> str:
    if spread is None:
        return ""
    if spread.median >= NEVER:
        return f"not within {patience_s:g} s"
    if spread.least == spread.most:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.least)} to {number(spread.most)})"


def _risk(showing: Showing, *, patience_s: float) -> str:
    spread = showing.spread("rerun_process")
    if spread is None:
        return "not measured"
    return f"not within {patience_s:g} s" if spread.median >= NEVER else f"after {number(spread.median)} s"


def judgements_of(field: Field, group: Group) -> list[str]:
    """Return how Cicely's figures stand to the best peer's, line by line, by ratios within a run."""
    ours = next((showing for showing in field.showings if showing.name == OURS), None)
    peers = [showing for showing in field.showings if showing.name != OURS]
    if ours is None:
        return []
    return [
        f"{line.text}: {said}"
        for line in group.lines
        if line.is_judged and (said := _judgement(ours, peers, line))
    ]


def _judgement(ours: Showing, peers: Sequence[Showing], line: Line) -> str:
    """Return how a line stands to the best peer's; nothing where there is no pair."""
    theirs = {peer.name: peer.figures[line.key] for peer in peers if line.key in peer.figures}
    mine = ours.figures.get(line.key)
    if not mine or not theirs:
        return ""
    best = best_of(theirs, line.better)
    ratio = paired(mine, theirs[best])
    if ratio is None:
        return ""
    if len(mine) < RUNS_THAT_DECIDE:
        return f"{ratio.median:.2f} of {best}'s"
    spread = f"{ratio.least:.2f} to {ratio.most:.2f}"
    return f"{ratio.median:.2f} of {best}'s ({spread}), {verdict(ratio, line.better)}"


def as_text(comparison: Comparison) -> str:
    """Return everything for a terminal."""
    lines = circumstances_of(comparison)
    for field in comparison.fields:
        lines += ["", f"== {field.about}", "", *_systems(field)]
        for group in groups_of(field):
            rows = [heads_of(group), *rows_of(field, group, patience_s=comparison.sizes.patience_s)]
            lines += ["", group.title, "", *aligned(rows), *absences_of(field, group), ""]
            lines += [f"  Cicely {said}" for said in judgements_of(field, group)]
    return "\n".join(lines)


def circumstances_of(comparison: Comparison) -> list[str]:
    """Return where and how it ran, a line each."""
    before, after = comparison.load
    sizes = comparison.sizes
    return [
        *comparison.machine.lines(),
        f"medians of {comparison.runs} runs (least to most)" if comparison.runs > 1 else "one run",
        f"drains of {sizes.drain:,} jobs, backlogs of {sizes.backlog_large:,}, {sizes.limit_s:g} s at most",
        f"load of the machine {before:.1f} before, {after:.1f} after",
    ]


def _systems(field: Field) -> list[str]:
    return [
        f"{showing.name}: {' '.join(f'{name} {number}' for name, number in showing.versions.items())}"
        f" ({showing.settings})"
        for showing in field.showings
    ]


def aligned(rows: Sequence[Cells]) -> list[str]:
    """Return rows with columns of one width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def as_markdown(comparison: Comparison, *, drawings: dict[tuple[str, str], str]) -> str:
    """Return everything for a page; `drawings` are the paths of its plots by engine and group."""
    lines = [f"- {line}" for line in circumstances_of(comparison)]
    for field in comparison.fields:
        lines += ["", f"### {field.about}", "", *(f"- {line}" for line in _systems(field))]
        for group in groups_of(field):
            lines += ["", f"**{group.title}**", ""]
            if (field.engine, group.key) in drawings:
                drawing = drawings[field.engine, group.key]
                lines += [f"![{group.title}, {field.engine}]({drawing})", ""]
            heads = heads_of(group)
            lines += [_piped(heads), "|" + "---|" * len(heads)]
            rows = rows_of(field, group, patience_s=comparison.sizes.patience_s)
            lines += [_piped(row) for row in rows]
            lines += ["", *(f"- {said}" for said in absences_of(field, group))]
            lines += [f"- Cicely {said}" for said in judgements_of(field, group)]
    return "\n".join(lines)


def _piped(cells: Cells) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
