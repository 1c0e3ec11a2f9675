"""Moving jobs on a person's behalf: what `cancel`, `revive` and `discard` have in common."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click
import msgspec

from cicely.cli.exits import NOTHING
from cicely.cli.screen import in_steps, json_option, note, write_json
from cicely.cli.selection import every, filter_of, filtered, the_job
from cicely.cli.target import Where, located
from cicely.cli.text import counted, safe
from cicely.core.job import Filter
from cicely.core.states import MOVES, State, allows
from cicely.errors import JobNotFound
from cicely.upkeep.steering import steer

if TYPE_CHECKING:
    from cicely.engines.contract import Engine

#: So many jobs per call: a call must not occupy an engine for long.
STEP: Final = 100


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A command line of `cancel`, `revive` or `discard`."""

    move: str
    job_ids: tuple[str, ...]
    where: Where
    filters: Filter
    reason: str = ""
    is_agreed: bool = False
    as_json: bool = False

    @property
    def is_filtered(self) -> bool:
        """Whether jobs are chosen by filters."""
        return self.filters != Filter()


def steering(command: Callable[[Wish], None]) -> Callable[..., None]:
    """Add what the three commands take; the command gets one `Wish`."""

    @functools.wraps(command)
    def call(
        *,
        job_ids: tuple[str, ...],
        where: Where,
        is_agreed: bool,
        as_json: bool,
        reason: str = "",
        state: tuple[str, ...],
        task: str,
        queue: str,
        tag: str,
        since: str,
        until: str,
    ) -> None:
        filters = filter_of(state=state, task=task, queue=queue, tag=tag, since=since, until=until)
        wish = Wish(
            move=command.__name__,
            job_ids=job_ids,
            where=where,
            filters=filters,
            reason=reason,
            is_agreed=is_agreed,
            as_json=as_json,
        )
        command(wish)

    yes = click.option("--yes", "-y", "is_agreed", is_flag=True, help="Do not ask.")
    ids = click.argument("job_ids", metavar="[ID]...", nargs=-1)
    return ids(located(filtered(yes(json_option(call)))))


def carry_out(wish: Wish) -> None:
    """Move the jobs that a wish names or describes, tell how it went, and exit by it."""
    if wish.job_ids and wish.is_filtered:
        raise click.UsageError("Name jobs by their ids, or choose them by filters, not both.")
    if not wish.job_ids and not wish.is_filtered:
        raise click.UsageError(
            f"Name the jobs to {wish.move} by id, or choose them with --state, --task, --queue, "
            "--tag, --since or --until."
        )
    if wish.job_ids:
        _move_named(wish)
    else:
        _move_filtered(wish)


def _move_named(wish: Wish) -> None:
    refused: dict[str, str] = {}
    jobs: dict[str, State] = {}
    with wish.where.open() as target:
        for written in wish.job_ids:
            try:
                job = the_job(target.engine, written)
            except JobNotFound as error:
                refused[written] = str(error)
            else:
                jobs[job.id] = job.state
        moved = _steer(target.engine, wish, list(jobs))
        for job_id in jobs.keys() - set(moved):
            refused[job_id] = _why_not(target.engine, wish.move, job_id)
    _report(wish, jobs, moved, refused)


def _why_not(engine: Engine, move: str, job_id: str) -> str:
    [job] = engine.get([job_id])
    if job is None or job.swept:
        return f"the job {job_id} was swept"
    if allows(move, job.state):
        return f"the job {job_id} stays {job.state}: another live job has its unique key"
    return f"the job {job_id} is {job.state}: {move} starts from {_sources(move)}"


def _sources(move: str) -> str:
    return ", ".join(state for state in State if state in MOVES[move].sources)


def _move_filtered(wish: Wish) -> None:
    with wish.where.open() as target:
        chosen = _choose(target.engine, wish)
        if not chosen:
            note(f"No job that could be moved matches (in {target.source}).")
            if wish.as_json:
                write_json({"move": wish.move, "matched": 0, "moved": 0, "refused": {}})
            click.get_current_context().exit(NOTHING)
        if not wish.is_agreed:
            ask(f"{wish.move.capitalize()} {_described(chosen.values())}?")
        moved = _steer(target.engine, wish, list(chosen))
    _report(wish, chosen, moved, {})


def _choose(engine: Engine, wish: Wish) -> dict[str, State]:
    """Return the ids and states of the jobs that match and may be moved."""
    allowed = MOVES[wish.move].sources
    asked = wish.filters.states or _usual_states(wish.move)
    if not allowed.intersection(asked):
        raise click.UsageError(
            f"{wish.move} does not start from {', '.join(asked)}, but from {_sources(wish.move)}."
        )
    states = tuple(state for state in asked if state in allowed)
    where = msgspec.structs.replace(wish.filters, states=states)
    return {job.id: job.state for jobs in every(engine, where) for job in jobs if not job.swept}


def _usual_states(move: str) -> tuple[State, ...]:
    # Whoever revives "all of this task" means those that failed, not those that were cancelled.
    if move == "revive":
        return (State.FAILED,)
    return tuple(state for state in State if state in MOVES[move].sources)


def _described(states: Iterable[State]) -> str:
    tally = Counter(states)
    parts = ", ".join(f"{count:,} {state}" for state, count in tally.items())
    return f"{counted(tally.total(), 'job')} ({parts})"


def ask(question: str) -> None:
    """Ask a person; without a yes nothing is done, and the command exits with 1."""
    try:
        if click.confirm(safe(question), err=True):
            return
    except click.Abort:
        note("")
        note("Nobody answered; --yes goes on without asking.")
    note("Nothing was changed.")
    click.get_current_context().exit(NOTHING)


def _steer(engine: Engine, wish: Wish, job_ids: Sequence[str]) -> list[str]:
    moved: list[str] = []

    def act(page: Sequence[str]) -> None:
        moved.extend(steer(engine, wish.move, page, reason=wish.reason))

    in_steps(job_ids, STEP, label=wish.move, act=act)
    return moved


def _report(
    wish: Wish, chosen: Mapping[str, State], moved: Sequence[str], refused: Mapping[str, str]
) -> None:
    matched = len(chosen)
    if wish.as_json:
        write_json({"move": wish.move, "matched": matched, "moved": len(moved), "refused": refused})
    else:
        done = {"cancel": "Cancelled", "revive": "Revived", "discard": "Discarded"}[wish.move]
        click.echo(f"{done} {counted(len(moved), 'job')}{_of_them_running(chosen, moved)}.")
        for reason in refused.values():
            note(f"Not moved: {reason}")
        if not refused and len(moved) < matched:
            note(f"{counted(matched - len(moved), 'job')} had changed in the meantime.")
    if refused or len(moved) < matched:
        click.get_current_context().exit(NOTHING)


def _of_them_running(chosen: Mapping[str, State], moved: Sequence[str]) -> str:
    running = sum(1 for job_id in moved if chosen[job_id] is State.RUNNING)
    return f"; {running:,} of them are running and were asked to end" if running else ""
