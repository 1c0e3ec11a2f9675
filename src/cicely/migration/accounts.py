"""The migration's own book of what each side was given: kept outside both, so that it can judge them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

import msgspec

from cicely.migration.routing import Which

_MODE: Final = 0o600


class How(StrEnum):
    """What a side was given: the job, its id alone, or a copy to compare."""

    ACCEPTED = "accepted"
    NOTED = "noted"
    SHADOWED = "shadowed"


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line of the book."""

    job_id: str
    which: Which
    how: How


class Accounts(Protocol):
    """A book that entries are added to and never taken from."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Write entries down; returns when other processes can read them."""

    def entries(self) -> Iterator[Entry]:
        """Yield all entries, those of other processes among them where it is shared."""

    def entries_of(self, job_id: str) -> Iterator[Entry]:
        """Yield those of one job."""


class MemoryAccounts:
    """The book of a service of one process; it ends with it."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def add(self, entries: Iterable[Entry]) -> None:
        """Write entries down."""
        self._entries += entries

    def entries(self) -> Iterator[Entry]:
        """Yield all entries."""
        return iter(list(self._entries))

    def entries_of(self, job_id: str) -> Iterator[Entry]:
        """Yield those of one job."""
        return (entry for entry in self.entries() if entry.job_id == job_id)


class FileAccounts:
    """A book in a file that all processes of a machine append to, a line per entry.

    It survives their deaths, and not the loss of power: it is not synchronised.
    """

    def __init__(self, file: str | Path) -> None:
        self._path = Path(file)
        self._lock = threading.Lock()
        self._opened: tuple[int, int] = (0, -1)
        self._encode = msgspec.json.Encoder().encode

    def add(self, entries: Iterable[Entry]) -> None:
        """Write entries down, all of them in one write."""
        lines = b"".join(self._encode(entry) + b"\n" for entry in entries)
        if lines:
            os.write(self._file(), lines)

    def _file(self) -> int:
        pid, file = self._opened
        if pid == os.getpid():
            return file
        with self._lock:
            if self._opened[0] != os.getpid():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, _MODE)
                self._opened = (os.getpid(), file)
            return self._opened[1]

    def entries(self) -> Iterator[Entry]:
        """Yield all entries. A last line that a killed process left unfinished is passed over."""
        return self._that_begin_with(b"")

    def entries_of(self, job_id: str) -> Iterator[Entry]:
        """Yield those of one job; no other line is decoded, so that a long book is read fast."""
        return self._that_begin_with(b"[" + self._encode(job_id) + b",")

    def _that_begin_with(self, begin: bytes) -> Iterator[Entry]:
        if not self._path.exists():
            return
        decode = msgspec.json.Decoder(Entry).decode
        with self._path.open("rb") as file:
            for line in file:
                if not line.startswith(begin):
                    continue
                try:
                    yield decode(line)
                except msgspec.DecodeError:
                    continue
