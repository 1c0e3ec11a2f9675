"""The SQLite engine keeps the engine contract."""

import pytest

from cicely.testing.conformance import Case, cases
from cicely.testing.conformance.embedded import SqliteHarness


@pytest.mark.parametrize("case", cases(SqliteHarness), ids=str)
def test_the_sqlite_engine_keeps_its_promise(case: Case) -> None:
    case.keep()
