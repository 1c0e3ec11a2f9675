"""Virtual time, chance by a seed, and the trace of what happened."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import logging
import os
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Final
from unittest import mock

Act = Callable[[], None]

BOOTED_AT: Final = 1_000.0
#: The lease of the simulated workers: what takes a second in life takes a minute here.
LEASE_S: Final = 1_800.0


class Alarm(Exception):
    """The product logged an error: in the simulation nothing may fail unforeseen."""


class World:
    """Events in the order of their instants; those of one instant in the order they were asked for.

    `now` is the boot clock of every simulated host, which no fault touches.
    """

    def __init__(self, seed: int, *, show: Callable[[str], None] | None = None) -> None:
        self.random = Random(seed)  # noqa: S311  (repeatable by its seed)
        self.now = BOOTED_AT
        self.wall_step_s = 0.0
        self.events = 0
        self._queue: list[tuple[float, int, Act]] = []
        self._asked = 0
        self._show = show
        self._digest = hashlib.blake2b(digest_size=12)

    def after(self, seconds: float, act: Act) -> None:
        """Do something when so many seconds have passed."""
        self._asked += 1
        heapq.heappush(self._queue, (self.now + max(0.0, seconds), self._asked, act))

    def step(self, until: float) -> bool:
        """Carry out the next event; False where there is none before `until`."""
        if not self._queue or self._queue[0][0] > until:
            return False
        self.now, _, act = heapq.heappop(self._queue)
        self.events += 1
        act()
        return True

    def happens(self, probability: float) -> bool:
        """Return whether something of this probability happens now."""
        return self.random.random() < probability

    def between(self, least: float, most: float) -> float:
        """Return a random number."""
        return self.random.uniform(least, most)

    def note(self, what: str) -> None:
        """Write a line of the trace."""
        line = f"{self.now - BOOTED_AT:10.2f}  {what}"
        self._digest.update(line.encode())
        if self._show is not None:
            self._show(line)

    @property
    def digest(self) -> str:
        """What the whole trace comes down to: equal for equal traces."""
        return self._digest.hexdigest()

    def boot_clock(self) -> float:
        """Return what a process that looks at the boot clock sees."""
        return self.now


class _Alarms(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        raise Alarm(record.getMessage()) from error


@contextlib.contextmanager
def virtual_time(world: World) -> Iterator[None]:
    """Let every clock of this process, and what is random in it, come from `world`."""

    def _monotonic() -> float:
        return world.now

    def _clock_gettime(_clock: int) -> float:
        return world.boot_clock()

    def _time() -> float:
        return world.now + world.wall_step_s

    def _sleep(_seconds: float) -> None:
        return

    log = logging.getLogger("cicely.worker")
    before = log.level, log.propagate, log.handlers
    log.handlers, log.propagate = [_Alarms(logging.ERROR)], False
    log.setLevel(logging.ERROR)
    try:
        with (
            mock.patch.object(time, "monotonic", _monotonic),
            mock.patch.object(time, "clock_gettime", _clock_gettime),
            mock.patch.object(time, "time", _time),
            mock.patch.object(time, "sleep", _sleep),
            mock.patch.object(os, "urandom", world.random.randbytes),
        ):
            yield
    finally:
        level, log.propagate, log.handlers = before
        log.setLevel(level)
