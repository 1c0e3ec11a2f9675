"""`cicely workers`: who is up, and with `--jobs` what each child runs and holds."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click
import msgspec

from cicely.cli.boards import Started, started_by
from cicely.cli.exits import NOTHING
from cicely.cli.records import outline, remark, took
from cicely.cli.screen import Column, is_narrow, json_option, note, write_json_lines, write_table
from cicely.cli.selection import every
from cicely.cli.target import Where, located
from cicely.cli.text import safe, short_id, span
from cicely.core.job import Filter, Job
from cicely.core.states import State

if TYPE_CHECKING:
    from cicely.engines.contract import Engine, SessionRecord

_WORKERS: Final = (
    Column("WORKER", gives=True),
    Column("PID", right=True),
    Column("HOST"),
    Column("BEAT"),
    Column("SEEN", right=True),
    Column("UP", right=True),
    Column("HOLDS", right=True),
    Column("QUEUES", gives=True),
)
_JOBS: Final = (
    Column("WORKER", gives=True),
    Column("PID", right=True),
    Column("HOLDS"),
    Column("ID"),
    Column("TASK", gives=True),
    Column("TOOK", right=True),
    Column("NOTE", gives=True),
)
#: A beat is due every third of a lease; one that is missing has not yet cost anything.
_LATE: Final = 0.5


@click.command()
@located
@click.option("--jobs", "with_jobs", is_flag=True, help="List what each child runs and holds ready.")
@json_option
@click.pass_context
def workers(ctx: click.Context, /, *, where: Where, with_jobs: bool, as_json: bool) -> None:
    """Show the sessions that are up: supervisors, their children, and receivers of messages.

    Exits with 1 when there is none.
    """
    with where.open() as target:
        records = target.engine.sessions()
        held = _held(target.engine) if with_jobs or as_json else {}
    if as_json:
        write_json_lines(_record(one, held.get(one.session.id, ())) for one in records)
    elif not records:
        note(f"No worker is up (in {target.source}).")
    elif with_jobs:
        _write_jobs(records, held)
    else:
        write_table(_WORKERS, map(_row, _by_worker(records)))
    ctx.exit(0 if records else NOTHING)


class Holding(msgspec.Struct, frozen=True):
    """A job that a session holds: running, claimed ahead, or (on another host) held, one of the two."""

    job: Job
    how: str


def _held(engine: Engine) -> dict[str, list[Holding]]:
    """Return what each session holds, oldest claim first."""
    jobs: dict[str, list[Job]] = defaultdict(list)
    for page in every(engine, Filter(states=(State.RUNNING,))):
        for job in page:
            jobs[job.session].append(job)
    sessions = {record.session.id: record.session for record in engine.sessions()}
    found: dict[str, list[Holding]] = {}
    for session_id, held in jobs.items():
        session = sessions.get(session_id)
        started = started_by(session) if session is not None else None
        held.sort(key=lambda job: job.started_at or 0.0)
        found[session_id] = [Holding(job, _how(job, started)) for job in held]
    return found


def _how(job: Job, started: Started | None) -> str:
    if started is None:
        return "held"
    return "runs" if job.id in started else "claimed ahead"


def _by_worker(records: Iterable[SessionRecord]) -> list[SessionRecord]:
    """Return supervisors, each followed by its children."""
    return sorted(
        records, key=lambda one: (one.session.worker, one.session.id != one.session.worker, one.joined_at)
    )


def _row(record: SessionRecord) -> tuple[str, ...]:
    session = record.session
    is_child = session.id != session.worker
    name = session.name or session.id
    return (
        f"  {name}" if is_child else name,
        str(session.pid),
        _host(record),
        beat_of(record),
        span(time.time() - record.beat_at),
        span(time.time() - record.joined_at),
        f"{record.held:,}",
        ", ".join(session.queues),
    )


def beat_of(record: SessionRecord) -> str:
    """Return whether a session's heartbeat comes in time."""
    silence_s = time.time() - record.beat_at
    if silence_s > record.session.lease_s:
        return "silent"
    return "late" if silence_s > _LATE * record.session.lease_s else "beating"


def _host(record: SessionRecord) -> str:
    from cicely.worker.processes import this_host

    host = record.session.host
    here = this_host()
    if host.boot_id and (host.boot_id, host.pid_ns) == (here.boot_id, here.pid_ns):
        return "here"
    return host.boot_id[:8] or "unknown"


def _write_jobs(records: Sequence[SessionRecord], held: Mapping[str, Sequence[Holding]]) -> None:
    rows = [
        _job_row(record, holding)
        for record in _by_worker(records)
        for holding in held.get(record.session.id, ())
    ]
    if rows:
        write_table(_JOBS, rows)
    else:
        note("No worker holds a job.")


def _job_row(record: SessionRecord, holding: Holding) -> tuple[str, ...]:
    session, job = record.session, holding.job
    return (
        session.name or session.id,
        str(session.pid),
        holding.how,
        short_id(job.id) if is_narrow() else safe(job.id),
        job.task or "(message)",
        took(job),
        remark(job),
    )


def _record(record: SessionRecord, held: Sequence[Holding]) -> dict[str, object]:
    session = record.session
    return {
        "id": session.id,
        "worker": session.worker,
        "name": session.name,
        "pid": session.pid,
        "host": msgspec.structs.asdict(session.host),
        "lease_s": session.lease_s,
        "queues": session.queues,
        "tasks": sorted(session.tasks),
        "beat": record.beat,
        "beating": beat_of(record),
        "beat_at": record.beat_at,
        "joined_at": record.joined_at,
        "held": record.held,
        "jobs": [outline(holding.job) | {"held_as": holding.how} for holding in held],
    }
