"""`cicely breakers`: how they stand, and opening and closing them by hand."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import click

from cicely.cli.screen import Column, json_option, note, write_json, write_json_lines, write_table
from cicely.cli.target import Where, located, pass_on
from cicely.cli.text import safe, span
from cicely.errors import ConfigError

if TYPE_CHECKING:
    from cicely.cli.target import Target
    from cicely.core.breaker import BreakerRule
    from cicely.engines.contract import SettingRecord

_COLUMNS: Final = (
    Column("BREAKER", gives=True),
    Column("STATE"),
    Column("RUNNING", right=True),
    Column("FAILURES", right=True),
    Column("OPENS AFTER", gives=True),
    Column("NOW", gives=True),
)


@click.group(invoke_without_command=True)
@located
@json_option
@click.pass_context
def breakers(ctx: click.Context, *, where: Where, as_json: bool) -> None:
    """List, trip and reset circuit breakers; by itself, list them."""
    if ctx.invoked_subcommand is None:
        _list(where, as_json=as_json)
        return
    pass_on(ctx, where, as_json=as_json)


@breakers.command("list")
@located
@json_option
def list_(*, where: Where, as_json: bool) -> None:
    """List the breakers and how they stand."""
    _list(where, as_json=as_json)


def _list(where: Where, *, as_json: bool) -> None:
    with where.open() as target:
        records = target.engine.settings("breaker")
    if as_json:
        write_json_lines(map(_as_json, records))
    elif records:
        write_table(_COLUMNS, map(_row, records))
    else:
        note("There are no breakers. A task names one with breaker=Breaker(...).")


@breakers.command()
@click.argument("name")
@located
@json_option
def trip(*, where: Where, name: str, as_json: bool) -> None:
    """Open a breaker until it is reset: its jobs stay queued, and nothing fails."""
    _turn(where, name, "trip", as_json=as_json)


@breakers.command()
@click.argument("name")
@located
@json_option
def reset(*, where: Where, name: str, as_json: bool) -> None:
    """Close a breaker, and forget the failures that it has counted."""
    _turn(where, name, "reset", as_json=as_json)


def _turn(where: Where, name: str, move: str, *, as_json: bool) -> None:
    with where.open() as target:
        _refuse_unknown(target, name)
        has_changed = target.engine.turn(name, move)
    if as_json:
        write_json({"breaker": name, "move": move, "changed": has_changed})
    else:
        done = "Opened" if move == "trip" else "Closed"
        click.echo(f"{done} {safe(name)}." if has_changed else f"{safe(name)} stood so already.")


def _refuse_unknown(target: Target, name: str) -> None:
    """Raise ConfigError for a name that neither the engine nor the app knows."""
    known = [_as_json(record)["name"] for record in target.engine.settings("breaker")]
    if name in known:
        return
    declared = {rule.name: rule for rule in _declared(target)}
    if name in declared:
        # No worker has put it there yet, and it is to be known by its own rule.
        target.engine.configure([declared[name]])
        return
    names = sorted({*known, *declared})
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none yet'}"
    raise ConfigError(f"there is no breaker {name or repr(name)}; {hint}")


def _declared(target: Target) -> list[BreakerRule]:
    from cicely.core.breaker import BreakerRule

    if target.app is None:
        return []
    return [rule for rule in target.app.declared_settings() if isinstance(rule, BreakerRule)]


def _as_json(record: SettingRecord) -> dict[str, Any]:
    from cicely.core.breaker import phase

    rule: Any = record.setting
    gauge = record.gauge
    closes_s = gauge.shut_until - record.now
    return {
        "name": rule.name,
        "state": str(phase(gauge, now=record.now)),
        "running": record.held,
        "failures": sum(at > record.now - rule.within_s for at in gauge.failures),
        "opens_after": rule.failures,
        "within_s": rule.within_s,
        "cooldown_s": rule.cooldown_s,
        "probe_in_s": closes_s if 0 < closes_s < float("inf") else None,
    }


def _row(record: SettingRecord) -> tuple[str, ...]:
    shown = _as_json(record)
    probe_s = shown["probe_in_s"]
    now = "by hand, until it is reset" if shown["state"] == "open" and probe_s is None else ""
    return (
        safe(shown["name"]),
        shown["state"],
        str(shown["running"]),
        str(shown["failures"]),
        f"{shown['opens_after']} within {span(shown['within_s'])}",
        f"a probe in {span(probe_s)}" if probe_s is not None else now,
    )
