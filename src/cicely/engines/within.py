"""Jobs that are stored in a transaction of the caller's: what an engine offers that shares its database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cicely.core.job import Enqueued, NewJob


class Enclosed(Protocol):
    """One open transaction of the caller's. What is stored here appears with its commit, or never."""

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Store all of `jobs`, or none; only inserts. Raises EngineError: the transaction is over then."""

    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        """Keep bytes that are too large for a job's row."""

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        """Return what `put_blob` kept, or None."""


@runtime_checkable
class Transactional(Protocol):
    """An engine that can store jobs in a transaction of the caller's."""

    def within(self, connection: object) -> Enclosed:
        """Return the transaction that is open on `connection`, or begins there.

        Raises UsageError for what is no connection to this engine's database, or cannot hold a
        transaction just now.
        """
