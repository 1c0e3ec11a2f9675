"""`cicely traffic`: how what is submitted is split during a migration, and changing it live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from cicely.cli.exits import NOTHING
from cicely.cli.screen import Column, json_option, note, write_json, write_json_lines, write_table
from cicely.cli.target import Where, located
from cicely.cli.text import safe
from cicely.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cicely.cli.target import Target
    from cicely.migration.shares import EngineShares
    from cicely.migration.traffic import Traffic

_COLUMNS = (Column("MIGRATION", gives=True), Column("NEW SIDE", right=True), Column("PHASE"))


@click.group(invoke_without_command=True)
@located
@json_option
@click.pass_context
def traffic(ctx: click.Context, *, where: Where, as_json: bool) -> None:
    """Show or set the share of the new side of a migration.

    It is kept by the engine; every process that splits follows within a second.
    """
    given: dict[str, Any] = {"app": where.app, "url": where.url, "as_json": as_json}
    if ctx.invoked_subcommand is not None:
        ctx.default_map = {ctx.invoked_subcommand: {name: value for name, value in given.items() if value}}
        return
    with where.open() as target:
        stored = _stored(_shares(target))
    if as_json:
        write_json_lines(_document(name, split) for name, split in stored.items())
    elif stored:
        rows = [(safe(name), f"{split.percent:g} %", str(split.phase)) for name, split in stored.items()]
        write_table(_COLUMNS, rows)
    else:
        note("No share is stored yet: each process goes by the one in its code.")
        ctx.exit(NOTHING)


@traffic.command("set")
@click.argument("percent", type=float)
@click.option("--name", default="", help="The migration; may be left out where there is one.")
@located
@json_option
def set_(*, where: Where, percent: float, name: str, as_json: bool) -> None:
    """Let so many percent go to the new side; 0 is the roll-back."""
    from cicely.migration.traffic import Traffic, replaced

    with where.open() as target:
        shares = _shares(target)
        stored = shares.read()
        chosen = name or _only(stored)
        split = replaced(stored[chosen], percent) if chosen in stored else Traffic().split(percent)
        shares.write(chosen, split.encoded())
    if as_json:
        write_json(_document(chosen, split))
    else:
        click.echo(
            f"{split.percent:g} % of {safe(chosen)} go to the new side, in every process within a second."
        )


def _shares(target: Target) -> EngineShares:
    from cicely.migration.shares import EngineShares

    return EngineShares(lambda: target.engine)


def _stored(shares: EngineShares) -> dict[str, Traffic]:
    from cicely.migration.traffic import decoded

    return {name: decoded(value) for name, value in sorted(shares.read().items())}


def _only(stored: Mapping[str, bytes]) -> str:
    if len(stored) > 1:
        raise ConfigError(f"there are several migrations ({', '.join(sorted(stored))}): name one with --name")
    return next(iter(stored), "default")


def _document(name: str, split: Traffic) -> dict[str, object]:
    return {"migration": name, **msgspec.to_builtins(split)}
