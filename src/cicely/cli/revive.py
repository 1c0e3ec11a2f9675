"""`cicely revive`."""

from __future__ import annotations

import click

from cicely.cli.steering import Wish, carry_out, steering


@click.command()
@steering
@click.option("--reason", default="", help="Why; kept with the job.")
def revive(wish: Wish) -> None:
    """Run failed, cancelled or expired jobs again, their tallies reset.

    Without ids, the failed jobs that match the filters (other states with --state), after a
    question.
    """
    carry_out(wish)
