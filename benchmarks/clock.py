"""The one clock of all measurements: it is the same in every process of a machine."""

from __future__ import annotations

import time


def boottime() -> float:
    """Return seconds since the machine started, pauses included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
