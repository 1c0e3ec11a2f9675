"""A raw queue on a PostgreSQL server: the fixed statements, over one connection."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import psycopg

from benchmarks.raw.stores import Held

_HERE = Path(__file__).parent


def statement(name: str) -> str:
    """Return one of the fixed statement files."""
    return (_HERE / f"{name}.sql").read_text()


ENQUEUE, SCHEDULE, EXCHANGE = statement("enqueue"), statement("schedule"), statement("exchange")


class PostgresStore:
    """One connection to one raw queue; each statement commits."""

    def __init__(self, place: str) -> None:
        self._db = psycopg.connect(place, autocommit=True, prepare_threshold=2)
        self._session = os.getpid()

    def create(self) -> None:
        """Make the tables, in place of old ones."""
        self._db.execute(statement("schema"), prepare=False)

    def close(self) -> None:
        """Hang up."""
        self._db.close()

    def enqueue(self, bodies: Sequence[bytes]) -> None:
        """Store one ready job per body."""
        self._db.execute(ENQUEUE, (list(bodies),), binary=True)

    def schedule(self, count: int, *, body: bytes, first: int) -> None:
        """Store `count` jobs that are due in an hour."""
        self._db.execute(SCHEDULE, (body, first, first + count - 1))

    def exchange(self, ended: Sequence[Held], batch: int) -> list[tuple[Held, bytes]]:
        """Settle what ended and claim the next `batch`, in one statement."""
        token = os.urandom(16)
        ids, tokens = [job_id for job_id, _ in ended], [held for _, held in ended]
        rows = self._db.execute(EXCHANGE, (ids, tokens, batch, token, self._session), binary=True).fetchall()
        if [job_id for job_id, body in rows if body is None] != [len(ended)]:
            raise RuntimeError("a token did not hold")
        return [((job_id, token), body) for job_id, body in rows if body is not None]

    def listen(self) -> None:
        """Listen on this connection."""
        self._db.execute("LISTEN raw")

    def wait(self, limit_s: float) -> None:
        """Return after a ring. Raises TimeoutError."""
        if not list(self._db.notifies(timeout=limit_s, stop_after=1)):
            raise TimeoutError

    def ring(self) -> None:
        """Wake whoever waits."""
        self._db.execute("NOTIFY raw")
