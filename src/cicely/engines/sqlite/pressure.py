"""Slows down whoever writes much while the write-ahead log cannot be used anew.

A reader that stays open keeps every page that was written since, so the log grows with each commit.
Nothing but writing less keeps it small. Short of the alarm nobody waits; beyond it each call waits
after its commit, outside every lock, by how much it wrote and how long the log has become. Beats,
cancellations and checkpoints never wait.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Final

#: From here on the log is long; it holds 8 MiB where nothing keeps it.
LONG_BYTES: Final = 96 << 20

_FIRST_S: Final = 0.002
_DOUBLES_EVERY_BYTES: Final = 6 << 20
_MOST_S: Final = 1.0
#: A call about so many jobs waits for the whole of it.
_FULL_JOBS: Final = 400


def pause_s(log_bytes: int, jobs: int) -> float:
    """Return how long a call that wrote about so many jobs waits, with a log of so many bytes."""
    beyond = log_bytes - LONG_BYTES
    if beyond <= 0:
        return 0.0
    # The exponent is bounded before it is used: a log of terabytes must not overflow a float.
    doublings = min(beyond / _DOUBLES_EVERY_BYTES, 10.0)
    whole: float = min(_FIRST_S * 2.0**doublings, _MOST_S)
    return whole * min(jobs / _FULL_JOBS, 1.0)


def wait_a_little(path: str, jobs: int) -> None:
    """Wait as long as the log of the database at `path` asks for."""
    with contextlib.suppress(OSError):
        wait_s = pause_s(os.stat(f"{path}-wal").st_size, jobs)
        if wait_s > 0:
            time.sleep(wait_s)
