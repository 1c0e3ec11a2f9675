"""`cicely report --since 7d`: what was promised, what came of it, and whether that is enough."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click
import msgspec

from cicely.cli.exits import NOTHING
from cicely.cli.screen import Column, json_option, note, write_json, write_table
from cicely.cli.selection import instant, since_when
from cicely.cli.target import Where, located
from cicely.cli.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cicely.engines.contract import Engine
    from cicely.observe.reliability import Line, Tally

_COLUMNS: Final = (
    Column("PROMISE"),
    Column("MEASURED", right=True),
    Column("TARGET", right=True),
    Column("VERDICT"),
    Column("MADE OF", gives=True),
)
#: How a target is written: at least so much, but for those that are to stay below.
_BELOW: Final = ("worker crashes", "failure rate")
#: Workers report a minute's beats up to so many minutes later.
_REPORTED_LATE: Final = 1
#: From here on nobody wants decimals.
_ROUND: Final = 100


@click.command()
@located
@click.option("--since", metavar="WHEN", default="7d", show_default=True, help="An age, or a time.")
@click.option(
    "--throughput",
    type=click.FloatRange(min=0),
    metavar="N",
    help="How many a second are wanted in the busiest minute; without it none are.",
)
@click.option(
    "--per-job",
    type=click.FloatRange(min=0),
    default=1.0,
    metavar="N",
    help="How many of what --throughput counts one job does, such as documents [default: 1].",
)
@json_option
@click.pass_context
def report(
    ctx: click.Context,
    /,
    *,
    where: Where,
    since: str,
    throughput: float | None,
    per_job: float,
    as_json: bool,
) -> None:
    """Judge the last days: throughput, schedules, worker crashes, failures and availability.

    Whole minutes count, by the engine's clock. Exits with 1 when a promise was broken, and when
    nothing was counted.
    """
    from cicely.core.rollup import minute_of
    from cicely.observe.reliability import is_good, judged, tally
    from cicely.observe.rollups import cells

    first = minute_of(instant(since, "--since") or 0.0)
    with where.open() as target:
        now = minute_of(time.time()) - _REPORTED_LATE
        total = tally(cells(target.engine, first, now), since=first, until=now)
        overdue = _overdue(target.engine)
    if total is None:
        note(
            f"Nothing was counted in whole minutes {since_when(since)} (in {target.source}); the last two "
            "are not complete yet."
        )
        ctx.exit(NOTHING)
    lines = judged(total, overdue=overdue, per_second=throughput, per_job=per_job)
    if as_json:
        write_json(_document(total, lines))
    else:
        _write(total, lines)
    ctx.exit(0 if is_good(lines) else NOTHING)


def _overdue(engine: Engine) -> int:
    """Return how many ticks are due for more than a minute, and nobody has dealt with them."""
    from cicely.upkeep.schedules import overdue_ticks

    return overdue_ticks(engine, now=time.time())


def _write(total: Tally, lines: Sequence[Line]) -> None:
    hours, minutes = divmod(total.minutes, 60)
    click.echo(f"{counted(hours, 'hour')} and {counted(minutes, 'minute')}")
    write_table(
        _COLUMNS, ((one.name, _measure(one), _target(one), _verdict(one), one.made_of) for one in lines)
    )


def _measure(line: Line) -> str:
    return "-" if line.measure is None else _number(line.measure, line.unit)


def _target(line: Line) -> str:
    if line.target is None:
        return "-"
    sign = "<" if line.name in _BELOW else ">="
    return f"{sign} {_number(line.target, line.unit)}"


def _verdict(line: Line) -> str:
    if line.is_met is None:
        return "-"
    return "met" if line.is_met else "broken"


def _number(value: float, unit: str) -> str:
    if unit == "%":
        # Rounded down: 99.997 % is not 100 %.
        return f"{int(value * 100_000) / 1000:g} %"
    return f"{value:,.0f}{unit}" if value >= _ROUND or value % 1 == 0 else f"{value:.3g}{unit}"


def _document(total: Tally, lines: Sequence[Line]) -> dict[str, object]:
    return {
        "since": total.since * 60,
        "until": total.until * 60,
        "minutes": total.minutes,
        "counts": {str(word): count for word, count in total.counts.items()},
        "promises": [msgspec.structs.asdict(line) for line in lines],
    }
