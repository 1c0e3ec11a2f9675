"""`cicely tasks`: what ran, how often, and for how long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from cicely.cli.exits import NOTHING
from cicely.cli.screen import Column, json_option, note, write_json_lines, write_table
from cicely.cli.selection import instant, since_when
from cicely.cli.target import Where, located
from cicely.cli.text import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cicely.observe.rollups import TaskStats

_COLUMNS: Final = (
    Column("TASK", gives=True),
    Column("RUNS", right=True),
    Column("SUCCEEDED", right=True),
    Column("FAILED", right=True),
    Column("RETRIED", right=True),
    Column("MEAN", right=True),
    Column("P50", right=True),
    Column("P95", right=True),
    Column("P99", right=True),
    Column("IN ALL", right=True),
)
_SHARES: Final = (0.5, 0.95, 0.99)


@click.command()
@located
@click.option("--since", metavar="WHEN", default="1h", show_default=True, help="An age, or a time.")
@click.option("--slowest", is_flag=True, help="Those that run longest first (by their p95), not by name.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show so many.")
@json_option
@click.pass_context
def tasks(
    ctx: click.Context,
    /,
    *,
    where: Where,
    since: str,
    slowest: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show the tasks that ran: how often, how that ended, and how long they took.

    Run times are those of attempts, from their claim to their end. Exits with 1 when none ran.
    """
    from cicely.core.rollup import minute_of
    from cicely.observe.rollups import by_task, cells

    first = minute_of(instant(since, "--since") or 0.0)
    with where.open() as target:
        stats = by_task(cells(target.engine, first, minute_of(time.time()) + 1))
    if slowest:
        stats.sort(key=lambda one: (-one.runs.quantile_s(0.95), -one.runs.mean_s))
    stats = stats[:limit]
    if as_json:
        write_json_lines(map(_record, stats))
    elif stats:
        write_table(_COLUMNS, map(_row, stats))
    else:
        note(f"No task was enqueued or ran {since_when(since)} (in {target.source}).")
    ctx.exit(0 if stats else NOTHING)


def _row(one: TaskStats) -> Sequence[str]:
    from cicely.core.rollup import Word

    has_run = one.runs.ran > 0
    times = [one.runs.mean_s, *map(one.runs.quantile_s, _SHARES), one.runs.sum_us / 1e6]
    return (
        one.task or "(messages)",
        f"{one.runs.ran:,}",
        f"{one.count(Word.SUCCEEDED):,}",
        f"{one.count(Word.FAILED):,}",
        f"{one.count(Word.RETRIED):,}",
        *(span(seconds) if has_run else "-" for seconds in times),
    )


def _record(one: TaskStats) -> dict[str, object]:
    p50, p95, p99 = map(one.runs.quantile_s, _SHARES)
    return {
        "task": one.task,
        "counts": {str(word): count for word, count in one.counts.items()},
        "runs": one.runs.ran,
        "seconds": one.runs.sum_us / 1e6,
        "mean_s": one.runs.mean_s,
        "p50_s": p50,
        "p95_s": p95,
        "p99_s": p99,
    }
