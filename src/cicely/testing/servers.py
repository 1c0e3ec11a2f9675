"""What the servers of tests have in common: a free port, a cheap folder, an end with their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final

_MEMORY_FOLDER: Final = "/dev/shm"  # noqa: S108  (the folders in it have unguessable names)
_LIBC: Final = ctypes.CDLL(None)
_PR_SET_PDEATHSIG: Final = 1


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fast_folder() -> str | None:
    """Return where files cost least; None for the usual place."""
    return _MEMORY_FOLDER if os.access(_MEMORY_FOLDER, os.W_OK) else None


def ending_with_parent(how: signal.Signals) -> Callable[[], None]:
    """Return what a new process calls to be sent `how` when the thread that started it ends."""

    def end_with_parent() -> None:
        # However the thread ends: the kernel sends it. One system call, no lock.
        if sys.platform == "linux":
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(how))

    return end_with_parent
