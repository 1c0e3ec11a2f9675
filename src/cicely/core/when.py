"""When a schedule ticks: at a fixed interval, or by a cron expression in a time zone.

Instants are Unix seconds, and every tick falls on a whole millisecond. What ticks follow from is
the rule alone, never from who asks or how often: all that keep a schedule agree on its ticks.

A cron expression is read by `cronsim`, and daylight saving follows its rules (those of Debian's
cron). Where minute and hour are both fixed, a time that the clock skips ticks right after the gap,
and a time that comes twice ticks the first time. Otherwise, and with a field for seconds, ticks are
the instants at which the wall clock matches. `cronsim` itself is asked about clocks that do not
change only: in zones that shift by half an hour it would lose ticks after the change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from cicely.core.text import storable
from cicely.core.units import Duration, duration_s
from cicely.errors import ConfigError

if TYPE_CHECKING:
    from cronsim import CronSim

#: A schedule ticks once per second at most.
MIN_INTERVAL_S: Final = 1.0

_DAY_S: Final = 86_400
_MINUTE: Final = timedelta(minutes=1)
_SOME_INSTANT: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FIELDS: Final = ("minute", "hour", "day of month", "month", "day of week")
_MONTH_FIELD: Final = -2
_LONGEST_EXPRESSION: Final = 200


class Every(msgspec.Struct, frozen=True, tag="every"):
    """Ticks at `start_ms` and at every whole number of intervals after it; made by `every`."""

    interval_ms: Annotated[int, msgspec.Meta(ge=1)]
    start_ms: int = 0

    def __str__(self) -> str:
        """Say it in words."""
        return f"every {_span(self.interval_ms)}"

    def after(self, instant: float) -> float:
        """Return the first tick after `instant`."""
        passed_ms = _whole_ms(instant) - self.start_ms
        count = max(0, passed_ms // self.interval_ms + 1)
        return (self.start_ms + count * self.interval_ms) / 1000

    def latest(self, since: float, until: float) -> float:
        """Return the last tick up to `until`, where `since` is one."""
        passed_ms = _whole_ms(until) - self.start_ms
        return max(since, (self.start_ms + passed_ms // self.interval_ms * self.interval_ms) / 1000)


class Cron(msgspec.Struct, frozen=True, tag="cron"):
    """Ticks where a cron expression matches the wall clock of a time zone; made by `cron`."""

    expression: str
    tz: str = "UTC"

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.expression} ({self.tz})"

    def after(self, instant: float) -> float | None:
        """Return the first tick after `instant`, None where there is none within 50 years.

        Raises ConfigError where this machine does not know the zone or cannot read the expression.
        """
        from cronsim import CronSimError

        zone = zone_of(self.tz)
        first = _first_named if _names_times(self.expression) else _first_matching
        try:
            return first(self.expression, zone, instant)
        except (CronSimError, ValueError, OverflowError) as error:
            raise ConfigError(f"cron({storable(self.expression)!r}): {_reason(error)}") from error

    def latest(self, since: float, until: float) -> float:
        """Return the last tick up to `until`, where `since` is one."""
        following = self.after(since)
        while following is not None and following <= until:
            # Halve what is left: years of minutes take a few dozen steps.
            middle = (since + until) / 2
            found = self.after(middle)
            if found is not None and found <= until:
                since = found
            else:
                since, until = following, max(middle, following)
            following = self.after(since)
        return since


When = Every | Cron


def every(interval: Duration, *, start: datetime | None = None) -> Every:
    """Return a rule that ticks at an interval: `every("30s")`, `every(timedelta(hours=1))`, `every(90)`.

    Ticks are whole intervals after midnight of 1 January 1970 UTC, or after `start`. Raises
    ConfigError for less than a second.
    """
    interval_s = duration_s(interval, name="every")
    if interval_s < MIN_INTERVAL_S:
        raise ConfigError(
            f"every({interval!r}): a schedule ticks once per second at most; for more, let one job loop"
        )
    if start is None:
        return Every(round(interval_s * 1000))
    if not isinstance(start, datetime) or start.utcoffset() is None:
        raise ConfigError(
            f"every(start={start!r}): a datetime with a time zone, such as "
            'datetime(2030, 1, 31, 8, tzinfo=ZoneInfo("Europe/Berlin"))'
        )
    if start.timestamp() <= 0:
        raise ConfigError(f"every(start={start}): an instant after 1970")
    return Every(round(interval_s * 1000), round(start.timestamp() * 1000))


def cron(expression: str, *, tz: str = "UTC") -> Cron:
    """Return a rule that ticks by a cron expression in a time zone: `cron("0 5 * * *", tz="Europe/Berlin")`.

    Five fields (minute, hour, day of month, month, day of week), or six with seconds first. Raises
    ConfigError for an expression that cannot be read or never fires, and for an unknown zone.
    """
    if not isinstance(expression, str) or len(expression) > _LONGEST_EXPRESSION:
        raise ConfigError(f'cron({expression!r}): write a text such as "*/5 * * * *"')
    if not isinstance(tz, str):
        raise ConfigError(f'cron(tz={tz!r}): the name of a time zone, such as "Europe/Berlin"')
    zone_of(tz)
    _check(expression)
    return Cron(" ".join(expression.split()), tz)


def upcoming(when: When, after: float) -> Iterator[float]:
    """Yield the ticks after an instant, in order."""
    tick = when.after(after)
    while tick is not None:
        yield tick
        tick = when.after(tick)


# --- time zones ---------------------------------------------------------------------------------
@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """Return a time zone. Raises ConfigError with the nearest name."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"there is no time zone {name!r}{_nearest_zone(name)}") from None


def _nearest_zone(name: str) -> str:
    from zoneinfo import available_timezones

    known = available_timezones()
    if not known:
        return ": this machine has no time zones at all; pip install tzdata brings them"
    spelt = {zone.lower(): zone for zone in sorted(known)}
    by_city = {zone.rpartition("/")[2]: zone for zone in spelt}
    wanted = name.lower().replace(" ", "_")
    near = get_close_matches(wanted, spelt, n=1) or get_close_matches(wanted, by_city, n=1)
    if not near:
        return '; write one such as "UTC" or "Europe/Berlin"'
    return f"; did you mean {spelt[by_city.get(near[0], near[0])]!r}?"


def _offset_s(zone: tzinfo, instant: float) -> int:
    offset = datetime.fromtimestamp(instant, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _next_shift(zone: tzinfo, since: int, until: int) -> int | None:
    """Return the first second in (since, until] at which the zone's offset is another, or None."""
    offset = _offset_s(zone, since)
    low = since
    while low < until:
        high = min(low + _DAY_S, until)
        if _offset_s(zone, high) != offset:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset_s(zone, middle) == offset else (low, middle)
            return high
        low = high
    return None


# --- cron expressions ---------------------------------------------------------------------------
def _check(expression: str) -> None:
    from cronsim import CronSimError

    asked = f"cron({storable(expression)!r})"
    fields = expression.split()
    if len(fields) not in (len(_FIELDS), len(_FIELDS) + 1):
        raise ConfigError(
            f"{asked} has {len(fields)} fields: write five ({', '.join(_FIELDS)}), or six with seconds first"
        )
    try:
        first = next(_wall_clocks(expression, _SOME_INSTANT), None)
    except (CronSimError, ValueError) as error:
        if _is_readable(fields):
            raise ConfigError(f"{asked} never fires: none of its months has such a day") from None
        raise ConfigError(f"{asked}: {_reason(error)}") from None
    if first is None:
        raise ConfigError(f"{asked} never fires: no day within 50 years matches it")


def _is_readable(fields: list[str]) -> bool:
    """Whether the expression can be read if its days are looked for in all months."""
    from cronsim import CronSimError

    fields = [*fields]
    try:
        months_alone = ["0", "0", "1", fields[_MONTH_FIELD], "*"]
        _wall_clocks(" ".join(months_alone), _SOME_INSTANT)
        fields[_MONTH_FIELD] = "*"
        _wall_clocks(" ".join(fields), _SOME_INSTANT)
    except (CronSimError, ValueError):
        return False
    return True


def _reason(error: Exception) -> str:
    text = str(error)
    return f"the field for the {text[4:]} is out of range or cannot be read" if text[:4] == "Bad " else text


def _wall_clocks(expression: str, after: datetime) -> CronSim:
    """Return the matching wall clocks after one, all of them written as if they were UTC."""
    from cronsim import CronSim

    return CronSim(expression, after)


def _names_times(expression: str) -> bool:
    """Whether minute and hour are both fixed, so that a change of the clock must not lose or double them."""
    fields = expression.split()
    return len(fields) == len(_FIELDS) and not fields[0].startswith("*") and not fields[1].startswith("*")


def _wall(instant: float, offset_s: int) -> datetime:
    return datetime.fromtimestamp(math.floor(instant) + offset_s, UTC)


def _first_named(expression: str, zone: tzinfo, after: float) -> float | None:
    for wall in _wall_clocks(expression, _wall(after, _offset_s(zone, after))):
        local = wall.replace(tzinfo=zone, fold=0)
        while local.astimezone(UTC).astimezone(zone) != local:
            local += _MINUTE
        # Of a time that comes twice, the first may lie before `after`.
        if local.timestamp() > after:
            return local.timestamp()
    return None


def _first_matching(expression: str, zone: tzinfo, after: float) -> float | None:
    since = math.floor(after)
    while True:
        first_second = since + 1
        offset_s = _offset_s(zone, first_second)
        wall = next(_wall_clocks(expression, _wall(since, offset_s)), None)
        if wall is None:
            return None
        found = int(wall.timestamp()) - offset_s
        shift = _next_shift(zone, first_second, found)
        if shift is None:
            return float(found)
        # The clock is changed before: look again from its first second by the new time.
        since = shift - 1


def _whole_ms(instant: float) -> int:
    """Return the last whole millisecond up to `instant`, as ticks are made of: 1.001 s is 1001 ms."""
    rounded = round(instant * 1000)
    return rounded if rounded / 1000 <= instant else rounded - 1


def _span(interval_ms: int) -> str:
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if interval_ms % unit_ms == 0:
            return f"{interval_ms // unit_ms}{unit}"
    return f"{interval_ms / 1000:g}s"
