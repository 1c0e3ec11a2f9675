"""`cicely jobs`: list and search."""

from __future__ import annotations

from typing import Final

import click

from cicely.cli.exits import NOTHING
from cicely.cli.records import age, outline, remark, state_of, took
from cicely.cli.screen import Column, is_narrow, json_option, note, write_json_lines, write_table
from cicely.cli.selection import filter_of, filtered, newest
from cicely.cli.target import Where, located
from cicely.cli.text import safe, short_id
from cicely.core.job import Job

_COLUMNS: Final = (
    Column("ID"),
    Column("STATE"),
    Column("TASK", gives=True),
    Column("QUEUE", gives=True),
    Column("TRY", right=True),
    Column("AGE", right=True),
    Column("TOOK", right=True),
    Column("NOTE", gives=True),
)


@click.command()
@located
@filtered
@click.option("--limit", "-n", default=50, show_default=True, type=click.IntRange(1), help="At most so many.")
@json_option
@click.pass_context
def jobs(
    ctx: click.Context,
    /,
    *,
    where: Where,
    limit: int,
    as_json: bool,
    state: tuple[str, ...],
    task: str,
    queue: str,
    tag: str,
    since: str,
    until: str,
) -> None:
    """List jobs, newest first.

    Exits with 1 when no job matches. With --json, one record per line; instants are Unix seconds.
    """
    wanted = filter_of(state=state, task=task, queue=queue, tag=tag, since=since, until=until)
    with where.open() as target:
        # One more than is shown tells whether there are more.
        found = newest(target.engine, wanted, limit + 1)
        source = target.source
    if as_json:
        write_json_lines(map(outline, found[:limit]))
    elif found:
        write_table(_COLUMNS, map(_row, found[:limit]))
        if len(found) > limit:
            note(f"These are the newest {limit}; there are more (--limit, or a filter).")
    else:
        note(f"No job matches (in {source}).")
    ctx.exit(0 if found else NOTHING)


def _row(job: Job) -> tuple[str, ...]:
    return (
        short_id(job.id) if is_narrow() else safe(job.id),
        state_of(job),
        job.task or "(message)",
        job.queue,
        str(job.attempt),
        age(job),
        took(job),
        remark(job),
    )
