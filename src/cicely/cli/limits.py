"""`cicely limits`: what bounds jobs across all workers, where it stands, and changing it at run time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from cicely.cli.exits import NOTHING
from cicely.cli.screen import Column, json_option, note, write_json, write_json_lines, write_table
from cicely.cli.target import Where, located, pass_on
from cicely.cli.text import safe, span
from cicely.core.flow import QUEUE_PREFIX, TAG_PREFIX

if TYPE_CHECKING:
    from cicely.cli.target import Target
    from cicely.core.limits import Limit
    from cicely.engines.contract import SettingRecord

_COLUMNS: Final = (
    Column("LIMIT", gives=True),
    Column("HELD", right=True),
    Column("AT ONCE", right=True),
    Column("RATE"),
    Column("COSTS", gives=True),
    Column("BACKLOG", right=True),
    Column("NOW", gives=True),
)
#: Takes a bound away.
_NONE: Final = "none"


@click.group(invoke_without_command=True)
@located
@json_option
@click.pass_context
def limits(ctx: click.Context, *, where: Where, as_json: bool) -> None:
    """List, set and remove limits that all workers share; by itself, list them.

    Those that an app declares are put into the engine by its workers; what is set here stays until the
    app declares something else.
    """
    if ctx.invoked_subcommand is None:
        _list(where, as_json=as_json)
        return
    pass_on(ctx, where, as_json=as_json)


@limits.command("list")
@located
@json_option
def list_(*, where: Where, as_json: bool) -> None:
    """List the limits, where they stand, and how many hold them."""
    _list(where, as_json=as_json)


def _list(where: Where, *, as_json: bool) -> None:
    with where.open() as target:
        records = target.engine.settings("limit")
        declared = _limits_of(target.app) if target.app is not None else []
    if as_json:
        write_json_lines(map(_as_json, records))
    elif records:
        write_table(_COLUMNS, map(_row, records))
    elif declared:
        keys = ", ".join(limit.key for limit in declared)
        note(f"There are no limits yet. The app declares {keys}: its first worker brings that here.")
    else:
        note("There are no limits. An app declares one with app.limit(...).")


@limits.command("set")
@click.argument("key")
@click.option("--concurrency", metavar="N", help="How many hold it at once.")
@click.option("--rate", metavar="RATE", help='How many pass in a time: "500/m".')
@click.option("--cost", multiple=True, metavar="METER=RATE", help="As tokens=200k/m. May be repeated.")
@click.option("--backlog", metavar="N", help="How many of its jobs may wait; more are refused.")
@located
@json_option
def set_(
    *,
    where: Where,
    key: str,
    concurrency: str | None,
    rate: str | None,
    cost: Sequence[str],
    backlog: str | None,
    as_json: bool,
) -> None:
    """Set bounds of a limit; those that are not given stay, and "none" takes one away.

    What runs already goes on to its end, and nothing more is started until it fits.
    """
    wish = _Wish(concurrency=concurrency, rate=rate, costs=_meters(cost), backlog=backlog)
    if wish == _Wish():
        raise click.UsageError(
            "Give --concurrency, --rate, --cost or --backlog; `cicely limits remove KEY` removes a limit."
        )
    given = wish.limit(key)
    with where.open() as target:
        _declare(target, key)
        known = {one.key: one for one in _limits(target)}
        limit = wish.over(known.get(key), given)
        target.engine.configure([limit])
    if as_json:
        write_json(_bounds(limit))
    else:
        click.echo(f"Set {safe(key)}: {_said(limit) or 'no bounds'}.")
    if key not in known:
        _warn_of_a_typo(key, {*known, *_declared(target)})
    _note_what_is_not_bound(limit, target)


class _Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a command line, as they were written; None was not."""

    concurrency: str | None = None
    rate: str | None = None
    costs: Mapping[str, str] = {}
    backlog: str | None = None

    def limit(self, key: str) -> Limit:
        """Return a limit of these bounds and no others. Raises ConfigError for what lets nothing pass."""
        from cicely.flow_control import limit_of

        return limit_of(
            key,
            concurrency=_number(self.concurrency),
            rate=None if self.rate == _NONE else self.rate,
            cost={name: text for name, text in self.costs.items() if text != _NONE},
            backlog=_number(self.backlog),
        )

    def over(self, old: Limit | None, given: Limit) -> Limit:
        """Return the old limit, if there is one, with what was given in the place of its bounds."""
        if old is None:
            return given
        costs = {**old.costs, **given.costs}
        return msgspec.structs.replace(
            given,
            concurrency=old.concurrency if self.concurrency is None else given.concurrency,
            rate=old.rate if self.rate is None else given.rate,
            costs={name: rate for name, rate in costs.items() if self.costs.get(name) != _NONE},
            backlog=old.backlog if self.backlog is None else given.backlog,
        )


def _meters(written: Sequence[str]) -> dict[str, str]:
    meters: dict[str, str] = {}
    for one in written:
        name, _, rate = one.partition("=")
        if not name or not rate or name in meters:
            raise click.UsageError(f"--cost {safe(one)!r}: write each meter once, as tokens=200k/m.")
        meters[name] = rate
    return meters


def _number(written: str | None) -> Any:
    """Return a number; what is none is returned as it is, for an error that shows it."""
    if written is None or written == _NONE:
        return None
    try:
        return int(written)
    except ValueError:
        return written


def _limits(target: Target) -> list[Limit]:
    from cicely.core.limits import Limit

    settings = [record.setting for record in target.engine.settings("limit")]
    return [one for one in settings if isinstance(one, Limit)]


def _declare(target: Target, key: str) -> None:
    """Put a limit that only the code has yet into the engine, as a worker would: what is set stays then."""
    from cicely.upkeep.settings import declare

    if target.app is None or any(one.key == key for one in _limits(target)):
        return
    declare(target.engine, [one for one in _limits_of(target.app) if one.key == key])


def _limits_of(app: Any) -> list[Limit]:
    from cicely.core.limits import Limit

    return [one for one in app.declared_settings() if isinstance(one, Limit)]


def _declared(target: Target) -> Iterator[str]:
    """Yield the keys that the app declares or its tasks name; those made from arguments nobody can list."""
    if target.app is None:
        return
    yield from (one.key for one in _limits_of(target.app))
    yield from (f"{TAG_PREFIX}{name}=..." for name in target.app.registry.quota_by)
    yield from (QUEUE_PREFIX + queue for queue in target.app.registry.queues)
    for task in target.app.registry.tasks.values():
        yield from (key for key in task.options.needs.limits if isinstance(key, str))


def _note_what_is_not_bound(limit: Limit, target: Target) -> None:
    """Tell where the app's jobs do not pass the limit of their queue or tag: it holds none of them back."""
    if target.app is None or limit.key in target.app.registry.capped:
        return
    kind, _, name = limit.key.partition(":")
    is_quota = "=" in name and name.partition("=")[0] in target.app.registry.quota_by
    if limit.key.startswith(TAG_PREFIX) and not is_quota:
        remedy = f"declare app.cap(tag={name!r}, ...), or quota_by= with the tag's name"
    elif limit.key.startswith(QUEUE_PREFIX) and (limit.concurrency or limit.rate or limit.costs):
        remedy = f"declare app.cap(queue={name!r}, ...)"
    else:
        return
    note(f"It holds none of the app's jobs back, which do not ask for the limit of their {kind}: {remedy}.")


def _warn_of_a_typo(key: str, known: Collection[str]) -> None:
    if key in known:
        return
    # Each value of a tag has a quota of its own: only another tag's name may be a typo.
    name, is_quota, _ = key.partition("=") if key.startswith(TAG_PREFIX) else (key, "", "")
    names = {one.partition("=")[0] if is_quota else one: one for one in known}
    near = [] if is_quota and name in names else [names[one] for one in _near(name, names)]
    if near:
        undo = f"`cicely limits remove {key}` undoes it"
        note(f"There was no limit {key} before. Did you mean {near[0]}? {undo}.")


def _near(name: str, known: Iterable[str]) -> list[str]:
    bare = {one.removeprefix(TAG_PREFIX): one for one in known}
    return [bare[one] for one in get_close_matches(name.removeprefix(TAG_PREFIX), bare, n=1)]


@limits.command()
@click.argument("key")
@located
@json_option
@click.pass_context
def remove(ctx: click.Context, *, where: Where, key: str, as_json: bool) -> None:
    """Forget a limit; its jobs pass freely from now on."""
    with where.open() as target:
        was_known = target.engine.unset("limit", key)
    if as_json:
        write_json({"key": key, "removed": was_known})
    elif was_known:
        click.echo(f"Removed {safe(key)}.")
    else:
        note(f"There is no limit {key}; `cicely limits` lists them.")
    if not was_known:
        ctx.exit(NOTHING)


def _bounds(limit: Limit) -> dict[str, Any]:
    return {
        "key": limit.key,
        "concurrency": limit.concurrency,
        "rate": limit.rate.text if limit.rate else None,
        "cost": {name: rate.text for name, rate in limit.costs.items()},
        "backlog": limit.backlog,
    }


def _as_json(record: SettingRecord) -> dict[str, Any]:
    limit: Any = record.setting
    gauge = record.gauge
    return _bounds(limit) | {
        "held": record.held,
        "shut_for_s": max(0.0, gauge.shut_until - record.now),
        "ceiling": _ceiling(record),
    }


def _row(record: SettingRecord) -> tuple[str, ...]:
    limit: Any = record.setting
    costs = ", ".join(f"{safe(name)} {rate.text}" for name, rate in limit.costs.items())
    return (
        safe(limit.key),
        str(record.held),
        "·" if limit.concurrency is None else str(limit.concurrency),
        limit.rate.text if limit.rate else "·",
        costs or "·",
        "·" if limit.backlog is None else str(limit.backlog),
        "; ".join(_now(record)),
    )


def _now(record: SettingRecord) -> Iterator[str]:
    shut_s = record.gauge.shut_until - record.now
    if shut_s > 0:
        yield f"refused, again in {span(shut_s)}"
    ceiling = _ceiling(record)
    if ceiling is not None:
        yield f"{ceiling} at once after refusals"


def _ceiling(record: SettingRecord) -> int | None:
    from cicely.core.limits import NEVER, ceiling

    limit: Any = record.setting
    most = ceiling(limit, record.gauge, now=record.now)
    return int(most) if most < NEVER and most != limit.concurrency else None


def _said(limit: Limit) -> str:
    bounds = _bounds(limit)
    costs = [f"{name} {text}" for name, text in bounds.pop("cost").items()]
    said = [f"{name} {value}" for name, value in bounds.items() if name != "key" and value is not None]
    return ", ".join(said + costs)
