"""Random workflows come to the states and results that their interpreter says."""

import pytest
from redis_harness import RedisHarness

from cicely.testing.conformance import Harness
from cicely.testing.conformance.embedded import MemoryHarness, SqliteHarness
from cicely.testing.conformance.postgres import PostgresHarness
from cicely.testing.flows import check_random_flows
from cicely.testing.workflows import check_random_workflows

#: How many workflows and flows: each engine has some ten seconds for them.
EXAMPLES = [(MemoryHarness, 150), (SqliteHarness, 60), (RedisHarness, 60), (PostgresHarness, 20)]

on_each_engine = pytest.mark.parametrize(
    ("harness", "examples"), EXAMPLES, ids=[harness.name for harness, _ in EXAMPLES]
)


@on_each_engine
def test_random_workflows_end_as_their_interpreter_says(harness: type[Harness], examples: int) -> None:
    check_random_workflows(harness, examples=examples)


@on_each_engine
def test_random_flows_end_as_the_rules_of_their_edges_say(harness: type[Harness], examples: int) -> None:
    check_random_flows(harness, examples=examples // 2)
