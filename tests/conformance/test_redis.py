"""The Redis engine keeps the engine contract."""

import pytest
from redis_harness import RedisHarness

from cicely.testing.conformance import Case, cases
from cicely.testing.machine import check_random_verbs


@pytest.mark.parametrize("case", cases(RedisHarness), ids=str)
def test_the_redis_engine_keeps_its_promise(case: Case) -> None:
    case.keep()


def test_random_verbs_are_answered_as_the_memory_engine_answers_them() -> None:
    check_random_verbs(RedisHarness)
