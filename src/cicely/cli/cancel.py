"""`cicely cancel`."""

from __future__ import annotations

import click

from cicely.cli.steering import Wish, carry_out, steering


@click.command()
@steering
@click.option("--reason", default="", help="Why; kept with the job.")
def cancel(wish: Wish) -> None:
    """End jobs that have not ended: those that wait at once, running ones on request.

    Without ids, all jobs that match the filters, after a question.
    """
    carry_out(wish)
