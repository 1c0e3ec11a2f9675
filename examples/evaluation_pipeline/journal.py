"""What really ran, written down by the steps themselves and outside Cicely: the witness of this example."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Journal:
    """A file with a line per start and end of a step, and a lock per step that tells overlaps."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "journal"
        self._locks = folder / "locks"

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note the start of a step, and its end unless it raises or is killed."""
        self._locks.mkdir(parents=True, exist_ok=True)
        with (self._locks / name).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._write("overlap", name)
            self._write("start", name)
            yield
            self._write("end", name)

    def _write(self, what: str, name: str) -> None:
        file = os.open(self._file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            os.write(file, f"{what} {name}\n".encode())
        finally:
            os.close(file)

    def lines(self) -> list[tuple[str, str]]:
        """Return what happened and to which step, in order."""
        if not self._file.exists():
            return []
        return [(line.split()[0], line.split()[1]) for line in self._file.read_text().splitlines()]

    def counts(self, what: str, *, since: int = 0) -> Counter[str]:
        """Return how often each step had a "start", an "end" or an "overlap", from a line on."""
        return Counter(name for said, name in self.lines()[since:] if said == what)
