"""`cicely schedules`: what is enqueued by the clock, and changing it at run time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from cicely.cli.exits import NOTHING
from cicely.cli.screen import Column, console, json_option, note, write_json, write_json_lines, write_table
from cicely.cli.target import Where, located, pass_on
from cicely.cli.text import safe
from cicely.errors import ConfigError

if TYPE_CHECKING:
    from cicely.cli.target import Target
    from cicely.core.schedule import Plan
    from cicely.engines.contract import Schedule

_SHOWN_TICKS: Final = 5
#: A row with five dates needs so much; piped, lines are as wide as that.
_WIDE: Final = 170
_COLUMNS: Final = (
    Column("SCHEDULE", gives=True),
    Column("TASK", gives=True),
    Column("TICKS", gives=True),
    Column("NEXT"),
    Column("LAST"),
    Column("STATE"),
    Column("FROM"),
)


@click.group(invoke_without_command=True)
@located
@json_option
@click.pass_context
def schedules(ctx: click.Context, *, where: Where, as_json: bool) -> None:
    """Add, list, pause, resume, run and remove schedules; by itself, list them.

    They are kept by the engine, and any worker carries them out.
    """
    if ctx.invoked_subcommand is None:
        _list(where, as_json=as_json)
        return
    pass_on(ctx, where, as_json=as_json)


class Shown(msgspec.Struct, frozen=True):
    """A schedule as it is listed; `plan` is None where this version cannot read it."""

    name: str
    record: Schedule | None
    plan: Plan | None
    origin: str
    now: float

    @property
    def next_at(self) -> list[float]:
        """The next ticks; for a paused schedule, as if it were resumed."""
        from cicely.schedules import next_ticks

        if self.plan is None:
            return []
        return list(islice(next_ticks(self.plan, self.record, now=self.now), _SHOWN_TICKS))

    @property
    def state(self) -> str:
        """What is to be known of it in a few words."""
        if self.record is None:
            return "starts with a worker"
        if self.plan is None:
            return "unreadable here"
        if self.record.paused:
            return "paused"
        is_late = self.record.next_at is not None and 0 < self.record.next_at < self.now - _LATE_S
        return "late" if is_late else "on"


#: With a worker up, no tick waits so long.
_LATE_S: Final = 10.0


# --- list ---------------------------------------------------------------------------------------
@schedules.command("list")
@located
@json_option
def list_(*, where: Where, as_json: bool) -> None:
    """List the schedules: what they enqueue, their next five ticks and the last one.

    Times are in each schedule's own time zone, UTC where it has none. With --app, schedules that
    came from code and are no longer there say so.
    """
    _list(where, as_json=as_json)


def _list(where: Where, *, as_json: bool) -> None:
    with where.open() as target:
        found = list(_all(target))
        source = target.source
    if as_json:
        write_json_lines(map(_as_json, found))
    elif found:
        is_wide = console().width >= _WIDE
        write_table(_COLUMNS, (row for one in found for row in _rows(one, is_wide=is_wide)))
        if any(one.state == "late" for one in found):
            note("Late ones wait for a worker: `cicely workers` lists those that are up.")
    else:
        note(f"There is no schedule in {source}; `cicely schedules add` makes one.")


def _all(target: Target) -> Iterator[Shown]:
    from cicely.core.schedule import decode
    from cicely.upkeep.schedules import kept as kept_schedules

    declared = target.app.declared_schedules() if target.app is not None else {}
    kept = {record.name: record for record in kept_schedules(target.engine)}
    now = time.time()
    for name in sorted(kept.keys() | declared.keys()):
        record = kept.get(name)
        try:
            plan = decode(record.spec if record is not None else declared[name], name=name)
        except ConfigError as error:
            note(str(error))
            yield Shown(name, record, None, "?", now)
            continue
        is_gone = target.app is not None and plan.source == "code" and name not in declared
        yield Shown(name, record, plan, "not in code" if is_gone else str(plan.source), now)


def _rows(one: Shown, *, is_wide: bool) -> Iterator[Sequence[str]]:
    """Yield a row, and on a narrow terminal one more for each tick but the first."""
    times = [_times(one.plan, one.next_at)] if one.plan else ["?"]
    if one.plan and not is_wide:
        times = [_times(one.plan, [tick]) for tick in one.next_at] or times
    yield _row(one, times[0])
    for moment in times[1:]:
        yield ("", "", "", moment, "", "", "")


def _row(one: Shown, next_ticks: str) -> Sequence[str]:
    plan = one.plan
    last_at = one.record.last_at if one.record is not None else None
    return (
        one.name,
        plan.job.task if plan else "?",
        str(plan.when) if plan else "?",
        next_ticks,
        _times(plan, [last_at]) if plan and last_at is not None else "-",
        _with_skipped(one),
        one.origin,
    )


def _with_skipped(one: Shown) -> str:
    skipped = one.plan.skipped if one.plan else 0
    return f"{one.state}, {skipped:,} skipped" if skipped else one.state


def _times(plan: Plan, ticks: Sequence[float]) -> str:
    """Return instants as text, each without the date if it is that of the one before."""
    from cicely.schedules import local

    moments = [local(plan, tick) for tick in ticks]
    words: list[str] = []
    for number, moment in enumerate(moments):
        is_same_day = number > 0 and moments[number - 1].date() == moment.date()
        words.append(_clock(moment) if is_same_day else f"{moment.date()} {_clock(moment)}")
    return ", ".join(words) or "never"


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"


def _as_json(one: Shown) -> dict[str, object]:
    plan, record = one.plan, one.record
    return {
        "name": one.name,
        "task": plan.job.task if plan else None,
        "queue": plan.job.queue if plan else None,
        "ticks": str(plan.when) if plan else None,
        "catch_up": str(plan.catch_up) if plan else None,
        "overlap": str(plan.overlap) if plan else None,
        "jitter_s": plan.jitter_s if plan else None,
        "paused": record.paused if record else False,
        "state": one.state,
        "source": one.origin,
        "last_at": record.last_at if record else None,
        "next_at": one.next_at,
        "skipped": plan.skipped if plan else None,
        "skipped_at": plan.skipped_at if plan else None,
        "missed_at": plan.missed_at if plan else None,
    }


# --- add ----------------------------------------------------------------------------------------
@schedules.command()
@click.argument("name")
@click.argument("task")
@click.option("--every", "interval", metavar="TIME", default="", help="Tick at an interval: 30s, 5m, 1h.")
@click.option(
    "--cron", "expression", metavar="FIELDS", default="", help='Tick by a cron expression: "0 5 * * *".'
)
@click.option("--tz", default="", metavar="ZONE", help="The time zone of --cron, UTC without it.")
@click.option("--args", "args_json", metavar="JSON", default="[]", help="Positional arguments, as a list.")
@click.option("--kwargs", "kwargs_json", metavar="JSON", default="{}", help="Named arguments, as an object.")
@click.option("--queue", "-Q", default="", help="The queue of the jobs, else the task's own.")
@click.option("--priority", type=int, default=None, help="The priority of the jobs, from 0 to 9.")
@click.option("--expires", metavar="TIME", default="", help="A job must start within so long.")
@click.option(
    "--catch-up",
    default="one",
    show_default=True,
    metavar="skip|one|all",
    help="After downtime: no job for missed ticks, one for the last, or one for each.",
)
@click.option(
    "--overlap",
    default="allow",
    show_default=True,
    metavar="allow|skip",
    help="skip: no job while that of an earlier tick has not ended.",
)
@click.option("--jitter", metavar="TIME", default="0s", help="Spread the starts over so long.")
@located
@json_option
def add(
    *,
    where: Where,
    as_json: bool,
    name: str,
    task: str,
    interval: str,
    expression: str,
    tz: str,
    args_json: str,
    kwargs_json: str,
    catch_up: str,
    overlap: str,
    jitter: str,
    **job_options: Any,
) -> None:
    """Enqueue TASK by the clock from now on, as the schedule NAME.

    cicely schedules add nightly evals.rebuild --cron "0 5 * * *" --tz Europe/Berlin --kwargs '{"full": true}'
    """
    when = _when(interval, expression, tz=tz)
    args = _json(args_json, "--args", list)
    kwargs = _json(kwargs_json, "--kwargs", dict)
    options = {option: value for option, value in job_options.items() if value not in ("", None)}
    with where.open() as target:
        if target.app is None:
            raise ConfigError(
                "to add a schedule the app is needed, which knows how its tasks run: name it with "
                "--app module:app (or CICELY_APP)"
            )
        if where.url:
            target.app.use(target.engine)
        call = target.app.signature(task, args, kwargs, **options)
        try:
            target.app.add_schedule(name, call, when, catch_up=catch_up, overlap=overlap, jitter=jitter)
        except TypeError as error:
            raise ConfigError(f"schedule {name}: {error}") from None
        [shown] = [one for one in _all(target) if one.name == name]
    if as_json:
        write_json(_as_json(shown))
    elif shown.plan is not None:
        click.echo(f"Added {safe(name)}: {safe(_times(shown.plan, shown.next_at))}, …")


def _when(interval: str, expression: str, *, tz: str) -> Any:
    from cicely.core.when import cron, every

    if bool(interval) == bool(expression):
        raise click.UsageError('Say when: --every 30s, or --cron "*/5 * * * *", one of the two.')
    if interval and tz:
        raise click.UsageError("--tz is for --cron; an interval has no time zone.")
    if not interval:
        return cron(expression, tz=tz or "UTC")
    return every(float(interval) if interval.replace(".", "", 1).isdecimal() else interval)


def _json(written: str, option: str, kind: type) -> Any:
    example = '[1, "text"]' if kind is list else '{"full": true}'
    try:
        value = json.loads(written)
    except ValueError as error:
        raise click.UsageError(f"{option} {safe(written)}: not JSON ({error}); write {example}") from None
    if not isinstance(value, kind):
        raise click.UsageError(f"{option} {safe(written)}: write {example}")
    return value


# --- pause, resume, run, remove -----------------------------------------------------------------
@schedules.command()
@click.argument("name")
@located
@json_option
def pause(*, where: Where, name: str, as_json: bool) -> None:
    """Let a schedule make no more jobs; those that were made go on."""
    from cicely.upkeep.schedules import pause

    with where.open() as target:
        if not pause(target.engine, name):
            raise _unknown(target, name)
    _tell(
        as_json, {"name": name, "paused": True}, f"Paused {name}; `cicely schedules resume {name}` goes on."
    )


@schedules.command()
@click.argument("name")
@located
@json_option
def resume(*, where: Where, name: str, as_json: bool) -> None:
    """Let a paused schedule go on; its catch-up policy decides on the ticks that came meanwhile."""
    from cicely.upkeep.schedules import resume

    with where.open() as target:
        if not resume(target.engine, name):
            raise _unknown(target, name)
    _tell(as_json, {"name": name, "paused": False}, f"Resumed {name}.")


@schedules.command()
@click.argument("name")
@located
@json_option
def run(*, where: Where, name: str, as_json: bool) -> None:
    """Enqueue the job of a schedule now, beside its ticks."""
    from cicely.schedules import by_hand_id
    from cicely.upkeep.schedules import run

    with where.open() as target:
        answer = run(target.engine, name, by_hand_id(name))
        if answer is None:
            raise _unknown(target, name)
    said = f"Enqueued {answer.id}." if answer.fresh else f"Not enqueued: {answer.id} has not ended."
    _tell(as_json, {"name": name, "job": answer.id, "enqueued": answer.fresh}, said)
    if not answer.fresh:
        click.get_current_context().exit(NOTHING)


@schedules.command()
@click.argument("name")
@located
@json_option
def remove(*, where: Where, name: str, as_json: bool) -> None:
    """Forget a schedule. One that the code declares comes back when a worker starts."""
    with where.open() as target:
        if not target.engine.drop_schedule(name):
            raise _unknown(target, name)
        is_declared = target.app is not None and name in target.app.declared_schedules()
    if is_declared:
        note(f"The app declares {name}: the next worker that starts puts it back, unless the code changes.")
    _tell(as_json, {"name": name, "removed": True}, f"Removed {name}.")


def _unknown(target: Target, name: str) -> ConfigError:
    from cicely.schedules import unknown

    return unknown(target.engine, name)


def _tell(as_json: bool, document: dict[str, object], line: str) -> None:  # noqa: FBT001
    if as_json:
        write_json(document)
    else:
        click.echo(safe(line))
