"""Random workflows come to the states and results that their interpreter says."""

import pytest

from cicely.testing.conformance import Harness
from cicely.testing.conformance.embedded import MemoryHarness
from cicely.testing.flows import check_random_flows
from cicely.testing.workflows import check_random_workflows


@pytest.mark.parametrize("harness", [MemoryHarness], ids=lambda harness: harness.name)
def test_random_workflows_end_as_their_interpreter_says(harness: type[Harness]) -> None:
    check_random_workflows(harness)


@pytest.mark.parametrize("harness", [MemoryHarness], ids=lambda harness: harness.name)
def test_random_flows_end_as_the_rules_of_their_edges_say(harness: type[Harness]) -> None:
    check_random_flows(harness)
