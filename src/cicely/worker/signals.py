"""SIGTERM and SIGINT as something to wait on, beside everything else."""

from __future__ import annotations

import os
import signal


class StopSignals:
    """From its making on, these signals do nothing but wait here; made in the main thread."""

    def __init__(self) -> None:
        self._read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda signum, frame: None)

    def fileno(self) -> int:
        """Return a descriptor that is readable when one has come."""
        return self._read_fd

    def received(self) -> int:
        """Return how many have come since the last call."""
        try:
            signums = os.read(self._read_fd, 64)
        except BlockingIOError:
            return 0
        return sum(1 for signum in signums if signum in (signal.SIGTERM, signal.SIGINT))
