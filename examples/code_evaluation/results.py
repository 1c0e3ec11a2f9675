"""The service's own database of results, an SQLite file: what it depends on beside the engine.

Without EVALUATION_DATABASE there is none, and results are those that Cicely keeps.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

DATABASE_VARIABLE = "EVALUATION_DATABASE"
_BUSY_S = 5.0


class DatabaseDown(ConnectionError):
    """The database cannot be reached: nothing was stored."""


def create() -> None:
    """Make the database, where there is to be one."""
    if file := os.environ.get(DATABASE_VARIABLE, ""):
        with closing(sqlite3.connect(file)) as database:
            database.execute("CREATE TABLE result (eval_id TEXT PRIMARY KEY, passed, times) WITHOUT ROWID")
            database.commit()


def check() -> None:
    """Raise DatabaseDown where nothing could be stored: better before a program is run than behind it."""
    with _opened():
        return


def store(eval_id: str, *, passed: bool) -> None:
    """Store a result. Storing it again counts, and changes nothing else. Raises DatabaseDown."""
    with _opened() as database:
        if database is not None:
            database.execute(
                "INSERT INTO result VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
                (eval_id, passed),
            )


def stored() -> dict[str, int]:
    """Return how often each result was stored."""
    with _opened() as database:
        return {} if database is None else dict(database.execute("SELECT eval_id, times FROM result"))


@contextmanager
def _opened() -> Iterator[sqlite3.Connection | None]:
    file = os.environ.get(DATABASE_VARIABLE, "")
    if not file:
        yield None
        return
    try:
        with (
            closing(sqlite3.connect(f"{Path(file).as_uri()}?mode=rw", timeout=_BUSY_S, uri=True)) as database,
            database,
        ):
            yield database
    except sqlite3.OperationalError as error:
        raise DatabaseDown(f"{file}: {error}") from error
