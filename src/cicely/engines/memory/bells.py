"""Bells of the memory engine: pipes."""

from __future__ import annotations

import os
from collections.abc import Collection


class MemoryBell:
    """A pipe that becomes readable when rung while armed."""

    def __init__(self, watch: list[MemoryBell], owner: str, job_ids: Collection[str] = ()) -> None:
        self.owner = owner
        self.job_ids = frozenset(job_ids)
        self._watch = watch
        self.is_armed = False
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        watch.append(self)

    def fileno(self) -> int:
        """Return the reading end."""
        return self._read_fd

    def arm(self) -> None:
        """Be rung from now on."""
        self.is_armed = True

    def disarm(self) -> None:
        """Be rung no more, and forget the rings so far."""
        self.is_armed = False
        try:
            os.read(self._read_fd, 4096)
        except BlockingIOError:
            return

    def ring(self) -> bool:
        """Ring if armed; return whether the owner was."""
        if not self.is_armed:
            return False
        self.is_armed = False
        os.write(self._write_fd, b"!")
        return True

    def close(self) -> None:
        """Be rung no more, and give the pipe back."""
        if self in self._watch:
            self._watch.remove(self)
            os.close(self._read_fd)
            os.close(self._write_fd)
