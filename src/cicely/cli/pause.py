"""`cicely pause QUEUE`."""

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
def pause(*, where: Where, queue: str, as_json: bool) -> None:
    """Hand out no more jobs of a queue; running ones go on, new ones are accepted."""
    with where.open() as target:
        one_queue(target, queue)
        target.engine.pause(queue)
    if as_json:
        write_json({"queue": queue, "paused": True})
    else:
        click.echo(f"Paused {safe(queue)}; `cicely resume {safe(queue)}` goes on.")
