"""Which side takes a job: the share, a point in 0 to 100, and the phase decide. Pure."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Final

from cicely.migration.traffic import Phase, Traffic

_POINT_BYTES: Final = 8
_POINTS: Final = 1 << (8 * _POINT_BYTES)


class Which(StrEnum):
    """A side by name."""

    OLD = "old"
    NEW = "new"

    @property
    def other(self) -> Which:
        """The other side."""
        return Which.NEW if self is Which.OLD else Which.OLD


class Mode(StrEnum):
    """What becomes of a job on the other side: its id is noted, it runs there as well, or as a substitute."""

    TRACK = "track"
    SHADOW = "shadow"
    FALLBACK = "fallback"


def point_of(key: str) -> float:
    """Return the point of a key, from 0 to below 100, the same in every process.

    A key below a share stays below every larger one: whoever was moved is not moved back by a raise.
    """
    digest = blake2b(key.encode("utf-8", "backslashreplace"), digest_size=_POINT_BYTES).digest()
    return int.from_bytes(digest, "big") * 100 / _POINTS


def chosen(traffic: Traffic, point: float) -> Which:
    """Return the side that takes the job at `point`."""
    if traffic.phase is not Phase.SPLIT:
        return Which.NEW
    return Which.NEW if point < traffic.percent else Which.OLD


def others(traffic: Traffic, mode: Mode, first: Which) -> tuple[Which, ...]:
    """Return the sides that may have the job beside `first`: none where the old one accepts no more."""
    is_closed = traffic.phase is not Phase.SPLIT
    if mode is Mode.TRACK or (is_closed and first is Which.NEW):
        return ()
    return (first.other,)
