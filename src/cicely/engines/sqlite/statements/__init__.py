"""Reads the SQL files beside it: one per duty, each with named statements."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent
_NAME: Final = re.compile(r"^-- :name (\w+)$", re.MULTILINE)
_COMMENT: Final = re.compile(r"^--.*$", re.MULTILINE)


def statements(duty: str) -> dict[str, str]:
    """Return the statements of `<duty>.sql` by their names."""
    _, *parts = _NAME.split((_FOLDER / f"{duty}.sql").read_text(encoding="utf-8"))
    return {name: _short(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _short(statement: str) -> str:
    # The driver hashes the whole text each time that it looks for what it has prepared.
    return " ".join(_COMMENT.sub("", statement).split())
