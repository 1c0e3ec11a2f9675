"""`cicely events`: what happened, and with `--follow` what happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click
import msgspec

from cicely.cli.screen import is_narrow, json_option, note, write_json_lines
from cicely.cli.selection import instant
from cicely.cli.target import Where, located
from cicely.cli.text import clipped, safe, short_id, span

if TYPE_CHECKING:
    from cicely.core.event import Event, EventFilter
    from cicely.engines.contract import Engine

#: Where nobody says since when.
_RECENT: Final = "1h"
#: Of these the job still knows the error.
_WITH_ERRORS: Final = ("job.failed", "job.retried")
_LONGEST_REASON: Final = 120
#: Who follows outlives the restart of a server.
_PATIENCE_S: Final = 60.0


@click.command()
@located
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens, until interrupted.")
@click.option("--since", metavar="WHEN", default="", help="An age as 90s, 1h, 7d, or a time [default: 1h].")
@click.option("--cursor", default="", help="Go on behind this event (its cursor, as --json gives it).")
@click.option(
    "--kind", "-k", "kinds", multiple=True, metavar="KIND", help="As job.failed, or job; repeatable."
)
@click.option("--task", default="", help="Only events of this task (its full name).")
@click.option("--queue", "-Q", default="", help="Only events of jobs of this queue.")
@click.option("--job", "job_id", default="", help="Only events of this job.")
@click.option("--workflow", default="", help="Only events of jobs of this workflow.")
@json_option
def events(
    *,
    where: Where,
    follow: bool,
    since: str,
    cursor: str,
    kinds: tuple[str, ...],
    task: str,
    queue: str,
    job_id: str,
    workflow: str,
    as_json: bool,
) -> None:
    """Show what happened: failures, retries, workers that came and went, pauses.

    Successes are told where they took a second, or where their task says events=True. With
    --follow and neither --since nor --cursor, only what is to come is shown.
    """
    from cicely.core.event import NEWEST, EventFilter
    from cicely.history import cursor_of, kinds_of

    is_bounded = bool(since or cursor)
    wanted = EventFilter(
        kinds=kinds_of(kinds),
        task=task,
        queue=queue,
        job_id=job_id,
        workflow=workflow,
        since=instant(since if is_bounded or follow else _RECENT, "--since"),
    )
    write = _write_json if as_json else _write_lines
    with where.open() as target:
        begin = NEWEST if follow and not is_bounded else cursor_of(cursor) or None
        try:
            _show(target.engine, wanted, begin, write=write, follow=follow)
        except KeyboardInterrupt:
            if not follow:
                raise


def _show(
    engine: Engine,
    wanted: EventFilter,
    cursor: str | None,
    *,
    write: Callable[[Engine, Sequence[Event]], None],
    follow: bool,
) -> None:
    from cicely.observe.events import FOLLOW_S, page_behind
    from cicely.patience import patiently

    count = 0
    while True:
        page = patiently(lambda: page_behind(engine, wanted, cursor), for_s=_PATIENCE_S if follow else 0.0)  # noqa: B023  (called at once)
        write(engine, page.events)
        count += len(page.events)
        cursor = page.cursor
        if page.more:
            continue
        if not follow:
            break
        time.sleep(FOLLOW_S)
    if not count and not follow:
        note("Nothing to tell: `--since` goes further back.")


def _write_json(_: Engine, events: Sequence[Event]) -> None:
    write_json_lines(map(msgspec.structs.asdict, events))


def _write_lines(engine: Engine, events: Sequence[Event]) -> None:
    errors = _errors(engine, [event for event in events if event.kind in _WITH_ERRORS])
    for event in events:
        moment = datetime.fromtimestamp(event.at).astimezone()
        told = _told(event, errors.get(event.cursor, event.reason))
        click.echo(f"{moment:%Y-%m-%d %H:%M:%S}  {event.kind:<16}  {told}".rstrip())


def _errors(engine: Engine, events: Sequence[Event]) -> dict[str, str]:
    """Return by cursor which error an attempt ended in, where that is still known."""
    from cicely.core.dead_letter import NO_ERROR, letter_of

    jobs = engine.get([event.job_id for event in events]) if events else []
    found: dict[str, str] = {}
    for event, job in zip(events, jobs, strict=True):
        error = letter_of(job, event.fence).error if job is not None else NO_ERROR
        if error is not NO_ERROR:
            found[event.cursor] = f"{error.type_name}: {error.message}".rstrip(": ")
    return found


def _told(event: Event, why: str) -> str:
    """Return what happened to whom, on one line."""
    if not event.job_id:
        return safe(f"{event.name}  {why}".rstrip())
    job = short_id(event.job_id) if is_narrow() else safe(event.job_id)
    parts = [job, safe(event.task or "(message)")]
    if event.attempt:
        parts.append(f"attempt {event.attempt}")
    if event.run_s is not None:
        parts.append(f"after {span(event.run_s)}")
    if why:
        parts.append(clipped(safe(why), _LONGEST_REASON))
    return "  ".join(parts)
