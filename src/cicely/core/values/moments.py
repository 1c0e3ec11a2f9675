"""Datetimes and times ↔ text: ISO 8601, then ``~`` for the second of two equal hours, then ``[zone]``."""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any

from cicely.errors import Malformed


def moment_text(value: dt.datetime | dt.time) -> str:
    """Return the text of a datetime or time, with its zone's key where it has one.

    A zone that is no `zoneinfo.ZoneInfo` is kept as its offset at that moment.
    """
    text: str = _built_in(value).isoformat(value)
    if value.fold:
        text += "~"
    if value.tzinfo is None or value.tzinfo is dt.UTC:
        return text
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo is not None and isinstance(value.tzinfo, zoneinfo.ZoneInfo) and value.tzinfo.key:
        text += f"[{value.tzinfo.key}]"
    return text


def _built_in(value: dt.datetime | dt.time) -> Any:
    # A subclass may format itself for people.
    return dt.datetime if isinstance(value, dt.datetime) else dt.time


def moment_from_text(cls: type[dt.datetime] | type[dt.time], text: str) -> dt.datetime | dt.time:
    """Return the moment that `moment_text` wrote; ValueError where it did not."""
    wall, _, zone = text.partition("[")
    value = cls.fromisoformat(wall.removesuffix("~"))
    if wall.endswith("~"):
        value = value.replace(fold=1)
    if zone:
        value = value.replace(tzinfo=_zone(zone.removesuffix("]")))
    return value


def _zone(key: str) -> dt.tzinfo:
    from zoneinfo import ZoneInfo  # only where a value has a zone

    try:
        return ZoneInfo(key)
    except (KeyError, OSError, ValueError) as error:
        raise Malformed(f"the time zone {key!r} is not known here; install tzdata") from error
