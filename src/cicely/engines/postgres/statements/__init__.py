"""Reads the SQL files beside it: one per duty, each with named statements."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent
_NAME: Final = re.compile(r"^-- :name (\w+)$", re.MULTILINE)


def statements(duty: str) -> dict[str, str]:
    """Return the statements of `<duty>.sql` by their names."""
    _, *parts = _NAME.split((_FOLDER / f"{duty}.sql").read_text(encoding="utf-8"))
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}
