"""`cicely migrate`: brings what an engine keeps on a server to the version of this Cicely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from cicely.cli.screen import json_option, write_json
from cicely.cli.target import Where, located
from cicely.cli.text import safe

if TYPE_CHECKING:
    from cicely.engines.migrating import Migrated


@click.command()
@located
@json_option
def migrate(*, where: Where, as_json: bool) -> None:
    """Bring the engine's schema to this version, whole or not at all.

    Stop the workers first. An empty database needs none of this: whoever comes first creates the
    schema. To run it twice, or on an engine without a schema, changes nothing.
    """
    from cicely.engines.connect import connect, redacted
    from cicely.engines.migrating import Migrated, Migrating

    url, _ = where.place()
    engine = connect(url, role="producer")
    try:
        done = engine.migrate() if isinstance(engine, Migrating) else Migrated(redacted(url), 0, 0)
    finally:
        engine.close()
    if as_json:
        write_json(msgspec.to_builtins(done))
    else:
        click.echo(safe(_sentence(done)))


def _sentence(done: Migrated) -> str:
    if not done.after:
        return f"Nothing to do: {done.place} has no schema that needs it."
    if done.before == done.after:
        return f"Nothing to do: {done.place} has schema {done.after}."
    if not done.before:
        return f"Created schema {done.after} in {done.place}."
    return f"Went from schema {done.before} to {done.after} in {done.place}."
