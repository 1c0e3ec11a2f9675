"""`cicely resume QUEUE`."""

from __future__ import annotations

import click

from cicely.cli.queues import one_queue
from cicely.cli.screen import json_option, write_json
from cicely.cli.target import Where, located
from cicely.cli.text import safe


@click.command()
@click.argument("queue")
@located
@json_option
def resume(*, where: Where, queue: str, as_json: bool) -> None:
    """Hand out the jobs of a paused queue again."""
    with where.open() as target:
        one_queue(target, queue)
        target.engine.resume(queue)
    if as_json:
        write_json({"queue": queue, "paused": False})
    else:
        click.echo(f"Resumed {safe(queue)}.")
