"""`cicely dev APP`: a worker in a process of its own, restarted when the app's code changes."""

from __future__ import annotations

import sys
from typing import Any

import click

from cicely.cli.demand import flags, options_for, working
from cicely.cli.reload import Front, Reload
from cicely.cli.screen import json_option
from cicely.cli.sources import Sources
from cicely.cli.view import View
from cicely.cli.whereabouts import whereabouts


@click.command()
@working
@json_option
@click.pass_context
def dev(ctx: click.Context, /, *, app: str, as_json: bool, **given: Any) -> None:
    """Run the jobs of APP while you work on it.

    Restarts when a .py file under the app's folder changes: jobs that still run after a second are
    handed back and run again with the new code. On a terminal it shows queues, running jobs and
    failures; piped, plain lines.
    """
    place = whereabouts(app)
    options_for(place, given=given)
    command = [sys.executable, "-P", "-m", "cicely", "worker", app, *flags(given)]
    if as_json:
        command.append("--json")
    front = View() if sys.stdout.isatty() and not as_json else Front()
    with front:
        ctx.exit(Reload(command, Sources(place.folder), front=front).run())
