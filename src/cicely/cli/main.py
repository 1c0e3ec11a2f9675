"""`cicely`: finds the command, and turns a user's mistake into one line and an exit code.

Each command's module is imported when it is called, so that `--help` and a typing error cost
nothing.
"""

from __future__ import annotations

import contextlib
import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from io import TextIOWrapper
from typing import Any, Final

import click

from cicely.cli.exits import Stop
from cicely.core.text import storable
from cicely.errors import CicelyError

_COMMANDS: Final = {
    "worker": "Run jobs until told to stop.",
    "dev": "Run jobs, show what happens, and restart when the code changes.",
    "jobs": "List and search jobs.",
    "job": "Show everything about one job.",
    "queues": "Show the queues and what is in them.",
    "workers": "Show the workers that are up and what they hold.",
    "tasks": "Show what ran, how often and for how long.",
    "events": "Show what happened, and follow what happens.",
    "report": "Judge the last days: throughput, schedules, crashes, failures, availability.",
    "cancel": "End jobs, or ask running ones to end.",
    "revive": "Run failed, cancelled or expired jobs again.",
    "discard": "Delete jobs that have ended.",
    "purge": "Cancel all that has not started in a queue.",
    "pause": "Hand out no more jobs of a queue.",
    "resume": "Hand out the jobs of a queue again.",
    "explain": "Say why a job waits.",
    "limits": "List, set and remove limits that all workers share.",
    "breakers": "List, trip and reset circuit breakers.",
    "scale": "Say how many workers the backlog wants.",
    "event": "Tell the job that waits for an event.",
    "traffic": "Show or set how a migration splits what is submitted.",
    "schedules": "Add, list, pause, resume, run and remove schedules.",
    "migrate": "Bring the engine's schema to this version.",
    "doctor": "Check the engine, the settings and the workers.",
    "torture": "Kill workers at random and prove that nothing is lost.",
    "demo": "Grade 656 programs, some of them hostile, and lose none.",
}


class Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names, in the order of the help."""
        return [name for name in _COMMANDS if find_spec(f"cicely.cli.{name}")]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words of the command line; those that are no text could not be stored or sent."""
        for word in args:
            if storable(word) != word:
                raise click.UsageError(f"{storable(word)} is no text in UTF-8.", ctx)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(import_module(f"cicely.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name]) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a misspelt one, name the nearest."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]}?" if near else " `cicely --help` lists them."
            raise click.UsageError(f"There is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; our own errors end as one line and an exit code."""
        try:
            return super().invoke(ctx)
        except CicelyError as error:
            raise Stop(error) from error


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cicely")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _say_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001
    if wanted:
        click.echo(f"cicely {_version()}")
        ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Background jobs that are never lost, in one file or on a server.

    Commands find the engine by --app module:app (or CICELY_APP), by --url (or CICELY_URL), or by
    the only .cicely/*.db file of the current folder.

    Exit codes: 0 done, 1 nothing matched or a problem was found, 2 wrong usage, 3 the engine is
    out of reach.
    """


def main() -> None:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            with contextlib.suppress(ValueError):
                # A terminal that knows no "…" gets an escape, not a traceback.
                stream.reconfigure(errors="backslashreplace")
    cli(prog_name="cicely")
