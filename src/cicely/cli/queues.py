"""`cicely queues`: what is in each queue."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

import click

from cicely.cli.screen import Column, json_option, note, write_json_lines, write_table
from cicely.cli.target import Where, located
from cicely.core.states import State
from cicely.errors import UnknownQueue

if TYPE_CHECKING:
    from cicely.cli.target import Target
    from cicely.engines.contract import QueueRecord

#: Shown only where some queue has such jobs, so that the table fits a narrow terminal.
_RARE: Final = frozenset({State.CANCELLED, State.EXPIRED})


@click.command()
@located
@json_option
def queues(*, where: Where, as_json: bool) -> None:
    """Show the queues: whether they are paused, and how many jobs are in each state."""
    with where.open() as target:
        records = known_queues(target)
    if as_json:
        write_json_lines({"name": one.name, "paused": one.paused, "counts": counts(one)} for one in records)
    elif records:
        write_table(*queue_table(records))
    else:
        note("No queue has had a job yet.")


def known_queues(target: Target) -> list[QueueRecord]:
    """Return the queues that the engine has seen and those that the app declares, by name."""
    from cicely.engines.contract import QueueRecord

    seen = {record.name: record for record in target.engine.queues()}
    for name in target.declared_queues:
        seen.setdefault(name, QueueRecord(name, paused=False, counts={}))
    return [seen[name] for name in sorted(seen)]


def one_queue(target: Target, name: str) -> QueueRecord:
    """Return the queue of this name, one that only workers know as well. Raises UnknownQueue."""
    from cicely.engines.contract import QueueRecord

    served = {queue for record in target.engine.sessions() for queue in record.session.queues}
    records = {queue: QueueRecord(queue, paused=False, counts={}) for queue in sorted(served)}
    records |= {record.name: record for record in known_queues(target)}
    if name in records:
        return records[name]
    near = get_close_matches(name, records, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(records) or 'none yet'}"
    if target.app is None:
        hint += " (with --app, those that the app declares as well)"
    raise UnknownQueue(f"there is no queue {name or repr(name)} in {target.source}; {hint}")


def counts(record: QueueRecord) -> dict[str, int]:
    """Return the number of jobs in every state, zeros included."""
    return {str(state): record.counts.get(state, 0) for state in State}


def queue_table(records: Sequence[QueueRecord]) -> tuple[list[Column], list[list[str]]]:
    """Return the columns and rows of a table of queues."""
    states = [s for s in State if s not in _RARE or any(record.counts.get(s) for record in records)]
    columns = [Column("QUEUE", gives=True), *(Column(state.upper(), right=True) for state in states)]
    rows = [[record.name, *(_number(record.counts.get(s, 0)) for s in states)] for record in records]
    if any(record.paused for record in records):
        columns.insert(1, Column(""))
        for row, record in zip(rows, records, strict=True):
            row.insert(1, "paused" if record.paused else "")
    return columns, rows


def _number(count: int) -> str:
    return f"{count:,}" if count else "·"
