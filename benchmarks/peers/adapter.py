"""What the producer asks of a peer. One file per peer fills it in; `catalogue.py` says how its worker starts.

A peer's module registers the jobs of `bodies` or `coroutines` with it and offers `Adapter`. Tasks are named
as the functions there are.
"""

from __future__ import annotations

import os
from typing import Any, Final

URL: Final = os.environ.get("BENCH_URL", "")
#: How many coroutines or threads a worker process runs at once; empty for what is recommended.
CONCURRENCY: Final = os.environ.get("BENCH_CONCURRENCY", "")


class NotOffered(Exception):
    """The peer has no such thing; says what it has instead."""


class Adapter:
    """A peer as a producer sees it; every method may be called again."""

    async def open(self) -> None:
        """Connect, and make tables where there are none."""

    async def close(self) -> None:
        """Hang up."""

    async def enqueue(self, task: str, *numbers: int) -> Any:
        """Enqueue one job; return what `result` takes."""
        raise NotImplementedError

    async def enqueue_many(self, task: str, count: int) -> None:
        """Enqueue jobs without arguments by the fastest way that the peer documents."""
        raise NotOffered("no enqueue in bulk")

    async def enqueue_numbered(self, task: str, numbers: range) -> None:
        """Enqueue one job per number."""
        for number in numbers:
            await self.enqueue(task, number)

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        """Enqueue jobs that are due later."""
        raise NotOffered("no countdown")

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        """Wait for a job's result."""
        raise NotOffered("no results")

    async def chord(self, count: int) -> None:
        """Enqueue so many `noop` and one `finish` after them."""
        raise NotOffered("no callback after a group")
