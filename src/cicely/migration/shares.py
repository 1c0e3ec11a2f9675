"""Where the split is stored so that every process finds it: in the engine, in a file, or in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, unquote

from cicely.engines.contract import Engine, Note
from cicely.errors import EngineUnavailable

#: What the names of the notes that the engine keeps begin with.
PREFIX: Final = "traffic/"


class Shares(Protocol):
    """Stored splits by the names of their migrations; values are what `Traffic.encoded` wrote."""

    def read(self) -> Mapping[str, bytes]:
        """Return all of them. Raises EngineUnavailable where they are out of reach."""

    def write(self, name: str, value: bytes) -> None:
        """Keep one in place of the one before, for all processes."""


class EngineShares:
    """Splits that the engine keeps beside the jobs."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def read(self) -> Mapping[str, bytes]:
        """Return all of them."""
        notes = [record.setting for record in self._engine().settings("note")]
        return {
            note.name.removeprefix(PREFIX): note.value
            for note in notes
            if isinstance(note, Note) and note.name.startswith(PREFIX)
        }

    def write(self, name: str, value: bytes) -> None:
        """Keep one."""
        self._engine().configure([Note(PREFIX + name, value)])


class FileShares:
    """Splits in a folder that all processes of a machine reach, a file each; for sides without an engine."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def read(self) -> Mapping[str, bytes]:
        """Return all of them; none where the folder is not there yet."""
        try:
            return {unquote(file.stem): file.read_bytes() for file in self._folder.glob("*.share")}
        except OSError as error:
            raise EngineUnavailable(f"the shares in {self._folder} cannot be read: {error}") from error

    def write(self, name: str, value: bytes) -> None:
        """Keep one: its file is put in place whole."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{quote(name, safe='')}.share"
        new = file.with_suffix(f".{os.getpid()}.new")
        new.write_bytes(value)
        new.replace(file)


class MemoryShares:
    """Splits of this process alone: for tests, and for a service of one process."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def read(self) -> Mapping[str, bytes]:
        """Return all of them."""
        return dict(self._kept)

    def write(self, name: str, value: bytes) -> None:
        """Keep one."""
        self._kept[name] = value
