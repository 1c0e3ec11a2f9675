"""Engines agree with the memory engine on random sequences of verbs, faults and clock steps."""

import pytest

from cicely.testing.conformance import Harness
from cicely.testing.conformance.embedded import MemoryHarness, SqliteHarness
from cicely.testing.machine import check_random_verbs


@pytest.mark.parametrize("harness", [MemoryHarness, SqliteHarness], ids=lambda harness: harness.name)
def test_random_verbs_are_answered_as_the_memory_engine_answers_them(
    harness: type[Harness],
) -> None:
    check_random_verbs(harness)
