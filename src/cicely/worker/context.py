"""What a running job may ask and say: `cicely.current()` gives its Context."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from typing import Protocol

from cicely.core.job import Claim

_log = logging.getLogger("cicely.job")


class Link(Protocol):
    """The way from a running attempt to whoever keeps what it says."""

    def touch(self) -> None:
        """Note that the attempt is alive (for `stall_timeout`). Costs no I/O."""

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Pass progress on, soon; only the newest is kept."""

    def checkpoint(self, state: object) -> None:
        """Keep `state` for the next attempt; returns when it is durable."""


class Context:
    """One running attempt, as its own code sees it.

    `attempt` counts from 1. `fence` grows with every claim of the job: hand it to outside systems
    that must refuse a late writer. `restored` is what the last attempt gave to `checkpoint`, or
    None. `cancelled` turns True when the job was asked to end.
    """

    __slots__ = (
        "_link",
        "attempt",
        "cancelled",
        "fence",
        "is_inside",
        "job_id",
        "landing",
        "log",
        "queue",
        "restored",
        "task",
        "was_cut_short",
    )

    def __init__(self, claim: Claim, link: Link, *, restored: object = None) -> None:
        self.job_id = claim.job_id
        self.task = claim.task
        self.queue = claim.queue
        self.attempt = claim.attempt
        self.fence = claim.fence
        self.restored = restored
        self.cancelled = False
        #: Whether the job's own code runs: only then may an interrupt land.
        self.is_inside = False
        #: Held by whoever interrupts it from another thread, and where its own code is left.
        self.landing = threading.Lock()
        #: Whether a coroutine was cancelled from outside; the canceller knows why.
        self.was_cut_short = False
        self.log = logging.LoggerAdapter(_log, {"job_id": claim.job_id, "task": claim.task})
        self._link = link

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the job is; shown to people, and counts as a sign of life."""
        self._link.touch()
        self._link.progress(done, total, message)

    def heartbeat(self) -> None:
        """Give a sign of life, for `stall_timeout`."""
        self._link.touch()

    def checkpoint(self, state: object) -> None:
        """Keep `state` for the next attempt, should this one be cut short.

        Returns when the state is durable. Raises NotStorable for a value that cannot be kept.
        """
        self._link.touch()
        self._link.checkpoint(state)


_current: ContextVar[Context | None] = ContextVar("cicely_job", default=None)


def current() -> Context | None:
    """Return the Context of the job that runs here, or None outside a job."""
    return _current.get()


#: `enter(context)` makes it the current one and returns what `leave` wants.
enter = _current.set
leave = _current.reset
