"""Text that a terminal may be shown: names, arguments and errors come from anywhere.

Whatever is not printable (control characters, ANSI escapes, bidirectional overrides, lone
surrogates, line breaks) is written as an escape, so that a terminal never obeys it.
"""

from __future__ import annotations

from typing import Any, Final

_LONGEST: Final = 4_000
_FEW: Final = 10
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_SHOWN_OF_A_LONG_ID: Final = 8
_GENERATED_ID: Final = 32
_STEP: Final = 1024


def safe(text: str) -> str:
    """Return `text` on one line, with everything that is not printable escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def safe_lines(text: str) -> list[str]:
    """Return the lines of `text`, each as `safe` makes it, tabs as spaces."""
    return [safe(line.expandtabs(4)) for line in text.rstrip("\n").split("\n")] if text else []


def clipped(text: str, width: int) -> str:
    """Return `text`, or its beginning and an ellipsis where it is longer than `width`."""
    return text if len(text) <= width else text[: width - 1] + "…"


def shown(value: object) -> str:
    """Return a value as Python writes it, escaped and cut where it is endless."""
    text = safe(repr(value))
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}… ({len(text) - _LONGEST:,} characters more; --json shows all)"


def short_id(job_id: str) -> str:
    """Return the end of a generated id, which tells jobs apart; ids given by people stay whole."""
    if len(job_id) != _GENERATED_ID or job_id.strip("0123456789abcdef"):
        return safe(job_id)
    return f"…{job_id[-_SHOWN_OF_A_LONG_ID:]}"


def span(seconds: float | None) -> str:
    """Return a duration in the two units that matter, as "1h 05m"; None gives "-"."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 1:
        ms = seconds * 1000
        return f"{ms:.1f}ms" if ms < _FEW else f"{ms:.0f}ms"
    if seconds < _FEW:
        return f"{seconds:.1f}s"
    if seconds < _MINUTE_S:
        return f"{seconds:.0f}s"
    if seconds < _HOUR_S:
        return f"{int(seconds // _MINUTE_S)}m {int(seconds % _MINUTE_S):02d}s"
    if seconds < _DAY_S:
        return f"{int(seconds // _HOUR_S)}h {int(seconds % _HOUR_S // _MINUTE_S):02d}m"
    return f"{int(seconds // _DAY_S)}d {int(seconds % _DAY_S // _HOUR_S):02d}h"


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} TiB"


def counted(number: int, noun: str) -> str:
    """Return "1 job" or "1,234 jobs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def as_json(value: Any) -> Any:
    """Return `value` in types that JSON has; what it has no type for is given as Python writes it."""
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if value - value == 0 else repr(value)
        case list() | tuple():
            return [as_json(item) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: as_json(item) for key, item in value.items()}
        case _:
            return repr(value)
