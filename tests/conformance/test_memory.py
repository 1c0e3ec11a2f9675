"""The memory engine keeps the engine contract."""

import pytest

from cicely.testing.conformance import Case, cases
from cicely.testing.conformance.embedded import MemoryHarness


@pytest.mark.parametrize("case", cases(MemoryHarness), ids=str)
def test_the_memory_engine_keeps_its_promise(case: Case) -> None:
    case.keep()
