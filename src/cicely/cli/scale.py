"""`cicely scale`: how many processes the backlog wants, for whoever starts and stops workers."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from cicely.cli.demand import Processes
from cicely.cli.queues import known_queues
from cicely.cli.screen import json_option, note, write_json, write_pairs
from cicely.cli.target import Where, located
from cicely.cli.text import counted, span

if TYPE_CHECKING:
    from cicely.cli.target import Target


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
    from cicely.core.scaling import ScaleRule
    from cicely.observe.backlog import backlog_of, processes_of, wanted_processes

    if not all(queues):
        raise click.UsageError("--queue '': a queue's name is missing.")
    with where.open() as target:
        _note_unknown(target, queues)
        backlog = backlog_of(target.engine, queues)
        children = processes_of(target.engine.sessions(), queues)
    rule = ScaleRule(least=processes[0], most=processes[1])
    number = wanted_processes(backlog, rule, processes=children)
    workers = -(-number // per_worker)
    if as_json:
        write_json(
            {
                "waiting": backlog.waiting,
                "held_back": backlog.held_back,
                "mean_s": backlog.mean_s,
                "processes": children,
                "wanted_processes": number,
                "wanted_workers": workers,
            }
        )
        return
    write_pairs(
        [
            ("waiting", counted(backlog.waiting, "job")),
            ("held back", f"{counted(backlog.held_back, 'job')}, for what no further process brings"),
            ("a job takes", "nobody knows yet" if backlog.mean_s is None else span(backlog.mean_s)),
            ("processes", f"{children} now, {number} wanted"),
            ("workers", f"{workers} wanted, of {per_worker} processes each"),
        ]
    )


def _note_unknown(target: Target, queues: tuple[str, ...]) -> None:
    """Tell of queues that nobody knows: no error, since those who scale may come before the first job."""
    known = [record.name for record in known_queues(target)]
    for name in queues:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            note(f"No queue {name} has had a job yet." + (f" Did you mean {near[0]}?" if near else ""))
