"""Durations and sizes as people write them: 90, "1h", "512M" → seconds and bytes."""

from __future__ import annotations

import re
from datetime import timedelta

from cicely.errors import ConfigError

Duration = float | int | str | timedelta
Size = int | str

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
FOR_EVER_S = 1e11
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", re.IGNORECASE)


def duration_s(value: Duration, *, name: str) -> float:
    """Return seconds; `name` is the option that an error names."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise ConfigError(f'{name}={value!r}: write seconds, or "500ms", "90s", "5m", "1h", "7d"')
        seconds = float(match[1]) * _SECONDS[match[2]]
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name}={value!r}: a duration is a number of seconds or a text as '5m'")
    else:
        seconds = float(value)
    if not 0 <= seconds < FOR_EVER_S:
        raise ConfigError(f"{name}={value!r}: a duration is not negative and ends this millennium")
    return seconds


def size_bytes(value: Size, *, name: str) -> int:
    """Return bytes; K, M, G and T are powers of 1024."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise ConfigError(f'{name}={value!r}: write bytes, or "512M", "2G"')
        value = int(float(match[1]) * _BYTES[match[2].lower()])
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ConfigError(f"{name}={value!r}: a size is a positive number of bytes")
    return value
