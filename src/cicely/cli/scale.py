"""`cicely scale`: how many processes the backlog wants, for whoever starts and stops workers."""

from __future__ import annotations

import click

from cicely.cli.demand import Processes
from cicely.cli.screen import json_option, write_json, write_pairs
from cicely.cli.target import Where, located
from cicely.cli.text import span


@click.command()
@located
@click.option("--queue", "-Q", "queues", multiple=True, help="Count only this queue. May be repeated.")
@click.option(
    "--processes",
    "-c",
    default="1:1000",
    show_default=True,
    type=Processes(),
    metavar="N:M",
    help="The least and the most that are wanted.",
)
@click.option(
    "--per-worker", default=2, show_default=True, type=click.IntRange(1), help="Processes of one worker."
)
@json_option
def scale(
    *, where: Where, queues: tuple[str, ...], processes: tuple[int, int], per_worker: int, as_json: bool
) -> None:
    """Say how many processes, and so workers, the jobs that wait want now.

    Ten jobs that wait for each process are too many, two are too few; jobs of more than a tenth of a
    second weigh more, shorter ones less.
    """
    from cicely.core.scaling import ScaleRule, wanted
    from cicely.upkeep.scaling import backlog_of

    with where.open() as target:
        backlog = backlog_of(target.engine, queues)
        children = [r for r in target.engine.sessions() if r.session.worker != r.session.id]
    rule = ScaleRule(least=processes[0], most=processes[1])
    number = wanted(rule, backlog, processes=max(1, len(children)))
    workers = -(-number // per_worker)
    if as_json:
        write_json(
            {
                "waiting": backlog.waiting,
                "mean_s": backlog.mean_s,
                "processes": len(children),
                "wanted_processes": number,
                "wanted_workers": workers,
            }
        )
        return
    write_pairs(
        [
            ("waiting", f"{backlog.waiting:,} jobs"),
            ("a job takes", "nobody knows yet" if backlog.mean_s is None else span(backlog.mean_s)),
            ("processes", f"{len(children)} now, {number} wanted"),
            ("workers", f"{workers} wanted, of {per_worker} processes each"),
        ]
    )
