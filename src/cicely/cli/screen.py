"""Where output goes: tables and lines for people, JSON for machines.

Colours only on a terminal and never with NO_COLOR. A table fits the terminal; piped, it is as wide
as its content, so that nothing is cut off for the next program.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from cicely.cli.text import as_json, safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

T = TypeVar("T")

_PIPED_WIDTH: Final = 10_000
_NARROW: Final = 120
#: Work of fewer steps is over before a bar could be read.
_WORTH_A_BAR: Final = 500

_STYLES: Final = {
    "succeeded": "green",
    "failed": "bold red",
    "running": "cyan",
    "cancelling": "yellow",
    "cancelled": "yellow",
    "expired": "yellow",
    "paused": "yellow",
    "silent": "bold red",
    "late": "yellow",
    "beating": "green",
}

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON for programs instead of text for people."
)


class Column(msgspec.Struct, frozen=True):
    """A column of a table: one that `gives` is cut first where the terminal is narrow."""

    title: str
    gives: bool = False
    right: bool = False


def console(*, stderr: bool = False) -> Console:
    """Return a console that interprets nothing in what it is given."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def is_narrow() -> bool:
    """Whether long ids have to be shortened."""
    return console().width < _NARROW


def write_json(document: Mapping[str, object]) -> None:
    """Write one document, its lone surrogates and control characters as JSON's own escapes."""
    click.echo(json.dumps(as_json(document), indent=2))


def write_json_lines(records: Iterable[Mapping[str, object]]) -> None:
    """Write one record per line."""
    for record in records:
        click.echo(json.dumps(as_json(record)))


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to stdout."""
    _write(table(columns, rows))


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table whose cells are plain text on one line each."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column.title, justify="right" if column.right else "left", no_wrap=not column.gives)
    for row in rows:
        made.add_row(*map(_cell, row))
    return made


def _cell(text: str) -> Any:
    from rich.text import Text

    return Text(safe(text), style=_STYLES.get(text, ""), no_wrap=True, overflow="ellipsis")


def write_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Write names and values, one pair per line; values may wrap, and are already safe."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(Text(name), Text(value, style=_STYLES.get(value, "")))
    _write(made)


def _write(drawn: Table) -> None:
    screen = console()
    if screen.is_terminal:
        screen.print(drawn)
        return
    with screen.capture() as captured:
        screen.print(drawn)
    # Padding is for eyes; the next program would have to cut it off.
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def note(line: str) -> None:
    """Tell a person something that is no part of the output."""
    click.echo(safe(line), err=True)


def in_steps(items: Sequence[T], step: int, *, label: str, act: Callable[[Sequence[T]], None]) -> None:
    """Call `act` with `step` items at a time, behind a progress bar where that takes a while."""
    pages = [items[start : start + step] for start in range(0, len(items), step)]
    if len(items) < _WORTH_A_BAR or not sys.stderr.isatty():
        for page in pages:
            act(page)
        return
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=len(items))
        for page in pages:
            act(page)
            progress.advance(task, len(page))
