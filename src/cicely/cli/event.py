"""`cicely event NAME --key KEY`."""

from __future__ import annotations

import json
from typing import Any

import click

from cicely.cli.screen import json_option, write_json
from cicely.cli.target import Where, located
from cicely.cli.text import safe


@click.command()
@click.argument("name")
@click.option(
    "--key", required=True, metavar="KEY", help="The id of the job that waits, or the key that it named."
)
@click.option("--value", metavar="JSON", default="null", help="What it is told, as JSON.")
@located
@json_option
def event(*, where: Where, name: str, key: str, value: str, as_json: bool) -> None:
    """Tell the job that waits for an event.

    Where none waits yet, the event is kept for the next that does, up to 30 days.
    """
    from cicely.core.text import storable
    from cicely.orders import fresh_id

    told = _read(value)
    with where.open() as target:
        data = target.values.pack_event(told, where=f"the value of event {name!r}")
        taker = target.engine.signal(fresh_id(), storable(name), storable(key), data)
    if as_json:
        write_json({"event": name, "key": key, "job": taker or None})
    elif taker:
        click.echo(f"Told job {safe(taker)}.")
    else:
        click.echo(f"Nothing waits for {safe(name)} of {safe(key)} yet: it is kept for what will.")


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise click.UsageError(
            f"--value {value}: no JSON ({error}); text needs quotes, as in --value '\"yes\"'"
        ) from None
