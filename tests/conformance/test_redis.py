"""The Redis engine keeps the engine contract: on the oldest server, on a new one, and on a cluster."""

import pytest
from redis_harness import ClusterHarness, RedisHarness, ValkeyHarness

from cicely.testing.conformance import Case, cases
from cicely.testing.machine import check_random_verbs


@pytest.mark.parametrize("case", cases(RedisHarness), ids=str)
def test_the_redis_engine_keeps_its_promise(case: Case) -> None:
    case.keep()


@pytest.mark.parametrize("case", cases(ValkeyHarness), ids=str)
def test_the_redis_engine_keeps_its_promise_on_valkey(case: Case) -> None:
    case.keep()


@pytest.mark.parametrize("case", cases(ClusterHarness), ids=str)
def test_the_redis_engine_keeps_its_promise_on_a_cluster(case: Case) -> None:
    case.keep()


def test_random_verbs_are_answered_as_the_memory_engine_answers_them() -> None:
    check_random_verbs(RedisHarness)
