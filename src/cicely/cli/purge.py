"""`cicely purge QUEUE`."""

from __future__ import annotations

import click

from cicely.cli.exits import NOTHING
from cicely.cli.queues import one_queue
from cicely.cli.screen import in_steps, json_option, write_json
from cicely.cli.selection import every
from cicely.cli.steering import STEP, ask
from cicely.cli.target import Where, located
from cicely.cli.text import counted, safe
from cicely.core.job import Filter
from cicely.core.states import State


@click.command()
@click.argument("queue")
@located
@click.option("--yes", "-y", "is_agreed", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def purge(ctx: click.Context, /, *, where: Where, queue: str, is_agreed: bool, as_json: bool) -> None:
    """Cancel all that has not started in a queue: ready, due later, and waiting for others.

    What runs goes on; what a worker starts at that very moment is asked to end. `revive` brings
    back what was purged. Exits with 1 when there was nothing.
    """
    waiting = Filter(queue=queue, states=(State.READY, State.SCHEDULED, State.WAITING))
    moved: list[str] = []
    with where.open() as target:
        one_queue(target, queue)
        engine = target.engine
        job_ids = [job.id for jobs in every(engine, waiting) for job in jobs]
        if job_ids and not is_agreed:
            ask(f"Cancel {counted(len(job_ids), 'job')} that wait in {queue}?")
        in_steps(
            job_ids,
            STEP,
            label="purge",
            act=lambda page: moved.extend(engine.steer("cancel", page, reason="purged")),
        )
    if as_json:
        write_json({"queue": queue, "purged": len(moved)})
    else:
        click.echo(f"Purged {counted(len(moved), 'job')} from {safe(queue)}.")
    ctx.exit(0 if moved else NOTHING)
