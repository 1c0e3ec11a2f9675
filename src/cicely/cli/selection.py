"""Choosing jobs: the filters that `jobs`, `cancel`, `revive` and `discard` share, and ids in short."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from cicely.cli.text import safe
from cicely.core.job import Filter, Job
from cicely.core.states import State
from cicely.core.units import duration_s
from cicely.errors import ConfigError, JobNotFound, UsageError

if TYPE_CHECKING:
    from cicely.engines.contract import Engine

F = TypeVar("F", bound=Callable[..., Any])

PAGE: Final = 200
#: A shortened id is looked for among so many of the newest jobs.
_LOOKED_AT: Final = 5_000
_SHORTEST_ID: Final = 4
_NAMED_IF_AMBIGUOUS: Final = 5


def filtered(command: F) -> F:
    """Add the filters to a command, which gets them as `state`, `task`, `queue`, `tag`, `since`, `until`."""
    for option in (
        click.option("--until", metavar="WHEN", default="", help="Enqueued before: as --since."),
        click.option(
            "--since",
            metavar="WHEN",
            default="",
            help="Enqueued since: an age as 90s, 1h, 7d, or a time as 2030-01-31T08:00.",
        ),
        click.option("--tag", default="", help="Only jobs with this tag."),
        click.option("--queue", "-Q", default="", help="Only jobs of this queue."),
        click.option("--task", default="", help="Only jobs of this task (its full name)."),
        click.option(
            "--state",
            "-s",
            multiple=True,
            metavar="STATE",
            help=f"Only jobs in this state; repeatable ({', '.join(State)}).",
        ),
    ):
        command = option(command)
    return command


def filter_of(*, state: tuple[str, ...], task: str, queue: str, tag: str, since: str, until: str) -> Filter:
    """Return the filter that the options describe. Raises click.UsageError."""
    return Filter(
        states=_states(state),
        task=task,
        queue=queue,
        tag=tag,
        since=instant(since, "--since"),
        until=instant(until, "--until"),
    )


def _states(written: tuple[str, ...]) -> tuple[State, ...]:
    names = [name.strip() for one in written for name in one.split(",")]
    unknown = [name for name in names if name not in list(State)]
    if unknown:
        raise click.UsageError(f"There is no state {unknown[0]!r}; there are {', '.join(State)}.")
    return tuple(dict.fromkeys(map(State, names)))


def instant(written: str, option: str) -> float | None:
    """Return the instant that an age or a time says; None for "". Raises click.UsageError."""
    if not written:
        return None
    try:
        return datetime.fromisoformat(written).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - duration_s(written, name=option)
    except ConfigError:
        raise click.UsageError(
            f"{option} {safe(written)!r}: write an age as 90s, 1h or 7d, or a time as 2030-01-31T08:00."
        ) from None


def since_when(written: str) -> str:
    """Return the words for what `instant` understood: `since 7d ago`, `since 2030-01-31T08:00`."""
    if not written:
        return "in all the time"
    try:
        datetime.fromisoformat(written)
    except ValueError:
        return f"since {safe(written)} ago"
    return f"since {safe(written)}"


def every(engine: Engine, where: Filter) -> Iterator[tuple[Job, ...]]:
    """Yield all jobs that match, newest first, page by page."""
    cursor: str | None = None
    while True:
        page = engine.find(where, limit=PAGE, cursor=cursor)
        if page.jobs:
            yield page.jobs
        if page.cursor is None:
            return
        cursor = page.cursor


def newest(engine: Engine, where: Filter, limit: int) -> list[Job]:
    """Return up to `limit` jobs that match, newest first."""
    found: list[Job] = []
    for jobs in every(engine, where):
        found.extend(jobs)
        if len(found) >= limit:
            break
    return found[:limit]


def the_job(engine: Engine, written: str) -> Job:
    """Return the job whose id this is, or whose id alone begins or ends so. Raises JobNotFound."""
    [exact] = engine.get([written])
    if exact is not None:
        return exact
    part = written.lstrip("….")
    candidates = _with_part(engine, part) if len(part) >= _SHORTEST_ID else []
    if not candidates:
        raise JobNotFound(
            f"there is no job {written}; it may have been swept after its retention. `cicely jobs` "
            f"lists the newest; an id may be shortened to its last 8 characters"
        )
    if len(candidates) > 1:
        names = ", ".join(candidates[:_NAMED_IF_AMBIGUOUS])
        raise UsageError(f"{written} is short for several jobs: {names}; write more of the id")
    [job] = engine.get(candidates)
    if job is None:
        raise JobNotFound(f"the job {candidates[0]} was swept just now")
    return job


def _with_part(engine: Engine, part: str) -> list[str]:
    found: list[str] = []
    seen = 0
    for jobs in every(engine, Filter()):
        found += [job.id for job in jobs if job.id.endswith(part) or job.id.startswith(part)]
        seen += len(jobs)
        if seen >= _LOOKED_AT or len(found) > _NAMED_IF_AMBIGUOUS:
            break
    return found
