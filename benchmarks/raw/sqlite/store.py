"""A raw queue in one SQLite file: the fixed statements, and the lock that writers queue on."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from benchmarks.raw.stores import Held

_HERE = Path(__file__).parent
_PRAGMAS = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000"


def statement(name: str) -> str:
    """Return one of the fixed statement files."""
    return (_HERE / f"{name}.sql").read_text()


ENQUEUE, SCHEDULE = statement("enqueue"), statement("schedule")
CLAIM, HOLD = statement("claim"), statement("hold")
RELEASE, FINISH = statement("release"), statement("finish")


class SqliteStore:
    """One connection to one file. Every write is one transaction, durable when it returns."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._session = os.getpid()
        self._bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._open()

    def _open(self) -> None:
        self._db = apsw.Connection(self._path)
        self._db.set_busy_timeout(10_000)
        self._db.execute(_PRAGMAS)
        self._lock = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR)

    def create(self) -> None:
        """Make the tables in a new file, in place of the old one."""
        self._db.close()
        os.close(self._lock)
        for old in Path(self._path).parent.glob(f"{Path(self._path).name}*"):
            old.unlink()
        self._open()
        self._db.execute(statement("schema"))

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
        os.close(self._lock)
        self._bell.close()

    def enqueue(self, bodies: Sequence[bytes]) -> None:
        """Store one ready job per body."""
        with self._writing():
            self._db.executemany(ENQUEUE, ((body,) for body in bodies))

    def schedule(self, count: int, *, body: bytes, first: int) -> None:
        """Store `count` jobs that are due in an hour."""
        due_at = time.time() + 3600
        with self._writing():
            self._db.executemany(SCHEDULE, ((due_at, first + number, body) for number in range(count)))

    def exchange(self, ended: Sequence[Held], batch: int) -> list[tuple[Held, bytes]]:
        """Settle what ended and claim the next `batch`, in one transaction."""
        token = os.urandom(16)
        with self._writing():
            released = self._db.executemany(RELEASE, ended).fetchall() if ended else []
            if len(released) != len(ended):
                raise RuntimeError("a token did not hold")
            now = time.time()
            self._db.executemany(FINISH, ((job_id, b"\xc0", now) for job_id, _ in ended))
            rows: list[Any] = self._db.execute(CLAIM, (batch,)).fetchall()
            self._db.executemany(HOLD, ((job_id, token, self._session) for job_id, _ in rows))
        return [((job_id, token), body) for job_id, body in rows]

    def listen(self) -> None:
        """Take the bell's name."""
        Path(f"{self._path}.bell").unlink(missing_ok=True)
        self._bell.bind(f"{self._path}.bell")

    def wait(self, limit_s: float) -> None:
        """Return after a ring. Raises TimeoutError."""
        self._bell.settimeout(limit_s)
        self._bell.recv(16)

    def ring(self) -> None:
        """Wake whoever waits."""
        self._bell.sendto(b"!", f"{self._path}.bell")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        # The kernel queues the writers; SQLite's own busy handler lets them starve.
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
