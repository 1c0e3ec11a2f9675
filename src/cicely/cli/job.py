"""`cicely job ID`: everything about one job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from cicely.cli.records import (
    age,
    arguments_of,
    full,
    options_of,
    remark,
    result_of,
    state_of,
    took,
)
from cicely.cli.screen import Column, json_option, write_json, write_pairs, write_table
from cicely.cli.selection import the_job
from cicely.cli.target import Where, located
from cicely.cli.text import safe, safe_lines, shown, span
from cicely.core.job import AttemptRecord, Job
from cicely.core.outcome import ErrorRecord
from cicely.core.states import State

if TYPE_CHECKING:
    from cicely.cli.target import Target

_ATTEMPTS: Final = (
    Column("TRY", right=True),
    Column("FENCE", right=True),
    Column("STARTED"),
    Column("TOOK", right=True),
    Column("ENDED AS", gives=True),
    Column("ERROR", gives=True),
)


@click.command()
@click.argument("job_id", metavar="ID")
@located
@json_option
def job(*, where: Where, job_id: str, as_json: bool) -> None:
    """Show everything about one job: arguments, attempts, error and traceback.

    The ID may be shortened to its beginning or end where only one recent job fits.
    """
    with where.open() as target:
        found = the_job(target.engine, job_id)
        if as_json:
            write_json(full(found, target.values))
        else:
            _write(found, target)


def _write(found: Job, target: Target) -> None:
    write_pairs(_facts(found, target))
    if found.attempts:
        click.echo()
        write_table(_ATTEMPTS, map(_attempt_row, found.attempts))
    if not found.error:
        return
    error = ErrorRecord.decoded(found.error)
    click.echo()
    for line in safe_lines(error.traceback or f"{error.type_name}: {error.message}"):
        click.echo(line)


def _facts(found: Job, target: Target) -> Iterator[tuple[str, str]]:
    args, kwargs = arguments_of(found, target.values)
    yield "job", safe(found.id)
    yield "task", safe(found.task) or "(message)"
    yield "state", state_of(found)
    yield from _if_any("", safe(remark(found)))
    yield from _why_it_waits(found, target)
    yield "queue", f"{safe(found.queue)}, priority {found.priority}, runs {found.kind}"
    yield from _if_any("lane", safe(found.lane))
    yield from _if_any("tags", ", ".join(map(safe, found.tags)))
    yield from _if_any("unique", safe(found.unique))
    if not found.swept:
        for number, value in enumerate(args, 1):
            yield f"argument {number}", shown(value)
        for name, value in kwargs.items():
            yield f"argument {safe(name)}", shown(value)
    if found.options:
        yield "options", shown(options_of(found))
    yield from _life(found)
    if found.result:
        yield "result", shown(result_of(found, target.values))
    if found.swept:
        yield "swept", "its retention is over: only id and state are left"


def _life(found: Job) -> Iterator[tuple[str, str]]:
    tallies = found.tallies
    yield (
        "attempt",
        f"{found.attempt} (errors {tallies.errors}, crashes {tallies.crashes}, lost {tallies.lost}; "
        f"fence {found.fence})",
    )
    yield "enqueued", f"{_when(found.created_at)} ({age(found)} ago)"
    for name, at in (("due", found.due_at), ("expires", found.expires_at)):
        if at is not None:
            yield name, _when(at)
    if found.started_at is not None:
        yield "started", _when(found.started_at)
    if found.ended_at is not None:
        yield "ended", f"{_when(found.ended_at)} (took {took(found)})"
    yield from _if_any("session", safe(found.session))


def _if_any(name: str, value: str) -> Iterator[tuple[str, str]]:
    if value:
        yield name, value


def _why_it_waits(found: Job, target: Target) -> Iterator[tuple[str, str]]:
    if found.state.is_final or found.state is State.RUNNING or found.swept:
        return
    from cicely.observe.explain import explain
    from cicely.observe.reasons import Reason

    around = target.engine.surroundings(found.id)
    if around is None:
        return
    explanation = explain(around)
    if explanation.reason is not Reason.STARTING:
        yield "waits", safe(explanation.text)


def _attempt_row(attempt: AttemptRecord) -> tuple[str, ...]:
    error = ErrorRecord.decoded(attempt.error) if attempt.error else None
    return (
        str(attempt.attempt),
        str(attempt.fence),
        _when(attempt.started_at),
        span(attempt.ended_at - attempt.started_at),
        attempt.reason,
        f"{error.type_name}: {error.message}" if error else "",
    )


def _when(at: float) -> str:
    try:
        moment = datetime.fromtimestamp(at).astimezone()
    except (OverflowError, ValueError, OSError):
        return str(at)
    is_today = moment.date() == datetime.fromtimestamp(time.time()).astimezone().date()
    return moment.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S")
