"""Machines that one run at a time may have: a file and a lock on it.

A stand-in that works for the processes of one machine.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MACHINES = ("machine-1", "machine-2")


class NoneFree(Exception):
    """Every machine is somebody's; one may be given back at any time."""


class Pool:
    """Who has which machine, kept in one file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def hold(self, run: str) -> str:
        """Return the run's machine: the one that it has, else a free one. Raises NoneFree."""
        with self._held() as held:
            mine = [machine for machine, holder in held.items() if holder == run]
            free = [machine for machine in MACHINES if machine not in held]
            if not mine + free:
                raise NoneFree(f"{len(MACHINES)} machines, held by {', '.join(held.values())}")
            machine = (mine + free)[0]
            held[machine] = run
            return machine

    def free(self, run: str) -> list[str]:
        """Give back what the run has; return that. Nothing, where it has nothing."""
        with self._held() as held:
            mine = [machine for machine, holder in held.items() if holder == run]
            for machine in mine:
                del held[machine]
            return mine

    def holders(self) -> dict[str, str]:
        """Return who has which machine."""
        with self._held() as held:
            return dict(held)

    @contextmanager
    def _held(self) -> Iterator[dict[str, str]]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self._file.read_text() if self._file.exists() else "{}"
            held = json.loads(before)
            yield held
            after = json.dumps(held)
            if after != before:
                # Renamed into place: whoever is killed here leaves what was before, or this.
                new = self._file.with_suffix(".new")
                new.write_text(after)
                new.replace(self._file)
