"""`cicely torture`: kill workers at random, and prove by a ledger that nothing is lost or overlaps."""

from __future__ import annotations

import tempfile
from urllib.parse import quote

import click

from cicely.cli.exits import NOTHING
from cicely.cli.screen import json_option, note, write_json
from cicely.cli.text import safe


@click.command()
@click.option("--url", default="", help="The engine to torture [default: a new file].")
@click.option(
    "--minutes", default=2.0, show_default=True, type=click.FloatRange(0, min_open=True), help="For how long."
)
@click.option("--seed", type=int, help="Repeat the faults of an earlier run.")
@click.option(
    "--idle-jobs",
    default=10_000,
    show_default=True,
    type=click.IntRange(0),
    help="Jobs run before the first fault; none of them may run twice.",
)
@click.option(
    "--due-jobs",
    default=200,
    show_default=True,
    type=click.IntRange(0),
    help="Jobs run after those, each due at its time: how late they start is told.",
)
@json_option
@click.pass_context
def torture(
    ctx: click.Context,
    /,
    *,
    url: str,
    minutes: float,
    seed: int | None,
    idle_jobs: int,
    due_jobs: int,
    as_json: bool,
) -> None:
    """Kill, stop and starve real workers, and judge what really ran.

    Use an engine of its own: the jobs stay in it. Exits with 1 where a promise was broken.
    """
    from cicely.testing.torture import Wanted, run

    with tempfile.TemporaryDirectory(prefix="cicely-torture-") as folder:
        place = url or f"sqlite:///{quote(folder)}/torture.db"
        wanted = Wanted(seconds=60 * minutes, idle_jobs=idle_jobs, due_jobs=due_jobs)
        report = run(place, wanted, seed=seed, announce=note)
    if as_json:
        write_json(report.as_dict())
    else:
        for line in report.lines():
            click.echo(safe(line))
    ctx.exit(0 if report.is_clean else NOTHING)
