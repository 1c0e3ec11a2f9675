"""What an exit code says, and which one an error gets."""

from __future__ import annotations

from typing import Final

import click

from cicely.cli.text import safe, safe_lines
from cicely.errors import CicelyError, EngineError, JobNotFound, UsageError

OK: Final = 0
NOTHING: Final = 1  # nothing matched, or not everything that was asked for was done
USAGE: Final = 2
OUT_OF_REACH: Final = 3


class Stop(click.ClickException):
    """An error of ours on its way to the terminal: the user's traceback, if any, then one line."""

    def __init__(self, error: CicelyError) -> None:
        super().__init__(str(error))
        # click declares it for the class, and reads it from the instance.
        vars(self)["exit_code"] = code_of(error)
        traceback = str(getattr(error, "traceback", ""))
        # Without a line of the user's the sentence says it all.
        self._traceback = traceback if 'File "' in traceback else ""

    def show(self, file: object = None) -> None:
        """Write to stderr, with everything that a terminal might obey escaped."""
        for line in safe_lines(self._traceback):
            click.echo(line, err=True)
        click.echo(f"Error: {safe(self.message)}", err=True)


def code_of(error: CicelyError) -> int:
    """Return the exit code for an error of the tree in `cicely.errors`."""
    if isinstance(error, EngineError):
        return OUT_OF_REACH
    if isinstance(error, UsageError) and not isinstance(error, JobNotFound):
        return USAGE
    return NOTHING
