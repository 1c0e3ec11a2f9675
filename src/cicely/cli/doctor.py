"""`cicely doctor`: the effective settings, the engine, the workers, and what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from cicely.cli.examination import Finding, examine
from cicely.cli.exits import NOTHING
from cicely.cli.screen import Column, json_option, write_json, write_table
from cicely.cli.target import Where, located
from cicely.cli.text import counted, safe

if TYPE_CHECKING:
    from cicely.cli.examination import Report

_FACTS: Final = (Column("WHAT"), Column("IS", gives=True), Column("FROM", gives=True))


@click.command()
@located
@json_option
@click.pass_context
def doctor(ctx: click.Context, /, *, where: Where, as_json: bool) -> None:
    """Check the settings, the engine and the workers, and name a remedy for what is wrong.

    Measures with a session of its own that joins and leaves. Exits with 1 when there is a problem.
    """
    with where.open() as target:
        report = examine(target)
    if as_json:
        write_json(msgspec.to_builtins(report))
    else:
        _write(report)
    ctx.exit(NOTHING if report.problems else 0)


def _write(report: Report) -> None:
    write_table(_FACTS, [(fact.name, fact.value, fact.source) for fact in report.facts])
    click.echo()
    for title, findings in (("Note", report.notes), ("Problem", report.problems)):
        for finding in findings:
            _write_finding(title, finding)
    click.echo(f"{counted(len(report.problems), 'problem')}." if report.problems else "All is well.")


def _write_finding(title: str, finding: Finding) -> None:
    click.echo(f"{title}: {safe(finding.what)}")
    if finding.remedy:
        click.echo(f"  {safe(finding.remedy)}")
