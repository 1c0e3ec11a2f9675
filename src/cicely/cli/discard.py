"""`cicely discard`."""

from __future__ import annotations

import click

from cicely.cli.steering import Wish, carry_out, steering


@click.command()
@steering
def discard(wish: Wish) -> None:
    """Delete jobs that have ended, their results and errors with them.

    Without ids, all ended jobs that match the filters, after a question.
    """
    carry_out(wish)
