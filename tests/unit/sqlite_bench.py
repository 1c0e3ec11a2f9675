"""A file of jobs in virtual time, and what was asked of it: what the tests of the SQLite engine share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cicely.engines.contract import Session
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.testing.clock import VirtualClock


@pytest.fixture
def engine(tmp_path: Path, clock: VirtualClock) -> Iterator[SqliteEngine]:
    engine = SqliteEngine(str(tmp_path / "jobs.db"), durability="none", now=clock.now)
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    yield engine
    engine.close()


def rows(engine: SqliteEngine, statement: str) -> list[tuple]:
    return engine._opened().read(lambda txn: txn.rows(statement))


def noting(asked: list[str], ask: Callable[..., Any]) -> Callable[..., Any]:
    """Return `ask` of a transaction, which notes each statement in `asked`."""

    def noted(txn, statement: str, *values):
        asked.append(statement)
        return ask(txn, statement, *values)

    return noted
