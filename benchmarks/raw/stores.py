"""What a raw loop works on: a bare queue on one of the engines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

#: Where a loop's process finds its queue: not an argument, which others could read.
PLACE_VARIABLE = "CICELY_BENCH_PLACE"

#: A job's number and the token of its claim.
Held = tuple[int, bytes]


class Store(Protocol):
    """One connection to one raw queue. Every write is one transaction, kept when it returns."""

    def create(self) -> None:
        """Make an empty queue, in place of an old one."""

    def close(self) -> None:
        """Let go of it."""

    def enqueue(self, bodies: Sequence[bytes]) -> None:
        """Store one ready job per body."""

    def schedule(self, count: int, *, body: bytes, first: int) -> None:
        """Store `count` jobs that are due in an hour."""

    def exchange(self, ended: Sequence[Held], batch: int) -> list[tuple[Held, bytes]]:
        """Settle what ended and claim the next `batch`, in one transaction."""

    def listen(self) -> None:
        """Hear rings from now on."""

    def wait(self, limit_s: float) -> None:
        """Return after a ring. Raises TimeoutError."""

    def ring(self) -> None:
        """Wake whoever waits."""


def store_at(place: str) -> Store:
    """Return the raw queue that a URL names."""
    scheme, _, rest = place.partition("://")
    if scheme == "sqlite":
        from benchmarks.raw.sqlite.store import SqliteStore

        return SqliteStore(rest[1:])
    if scheme == "redis":
        from benchmarks.raw.redis.store import RedisStore

        return RedisStore(place)
    from benchmarks.raw.postgres.store import PostgresStore

    return PostgresStore(place)


def store_here() -> Store:
    """Return the raw queue that this process's environment names."""
    return store_at(os.environ[PLACE_VARIABLE])
