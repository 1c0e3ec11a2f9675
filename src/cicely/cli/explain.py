"""`cicely explain ID`: why a job waits."""

from __future__ import annotations

import click

from cicely.cli.screen import json_option, write_json
from cicely.cli.selection import the_job
from cicely.cli.target import Where, located
from cicely.cli.text import safe


@click.command()
@click.argument("job_id", metavar="ID")
@located
@json_option
def explain(*, where: Where, job_id: str, as_json: bool) -> None:
    """Say the one thing that holds a job back now, with its numbers and when it may lift.

    The ID may be shortened to its beginning or end where only one recent job fits.
    """
    from cicely.engines.contract import Surroundings
    from cicely.observe.explain import explain as explained

    with where.open() as target:
        found = the_job(target.engine, job_id)
        around = target.engine.surroundings(found.id) or Surroundings(job=found, now=0.0)
    explanation = explained(around)
    if as_json:
        said = {"reason": str(explanation.reason), "text": explanation.text, "until": explanation.until}
        write_json({"job": found.id, "state": str(found.state), **said, "details": explanation.details})
    else:
        click.echo(f"{safe(found.id)} is {found.state}: {safe(explanation.text)}")
