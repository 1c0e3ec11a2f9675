"""Noticing that the app's code changed: modification times, looked at a few times a second."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MOST_FILES: Final = 5_000
_NOT_CODE: Final = frozenset({"__pycache__", "node_modules", "site-packages"})


class Sources:
    """The .py files below a folder, without hidden folders and virtual environments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen = self._look()

    def changed(self) -> list[str]:
        """Return the files that were changed, added or removed since the last call."""
        before, self._seen = self._seen, self._look()
        if before == self._seen:
            return []
        paths = before.keys() | self._seen.keys()
        return sorted(
            os.path.relpath(path, self.folder) for path in paths if before.get(path) != self._seen.get(path)
        )

    def _look(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for path in self._files():
            try:
                stat = os.stat(path)
            except OSError:
                continue
            found[path] = (stat.st_mtime_ns, stat.st_size)
            if len(found) >= _MOST_FILES:
                break
        return found

    def _files(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if _is_code(folder, name)]
            yield from (os.path.join(folder, name) for name in files if name.endswith(".py"))


def _is_code(parent: str, name: str) -> bool:
    is_hidden = name.startswith(".") or name in _NOT_CODE
    return not is_hidden and not os.path.exists(os.path.join(parent, name, "pyvenv.cfg"))
